from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from engine.engine import Engine
from engine.native.model import NativeModel
from tests.engine.real import model_path, real_config


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """The bundled model with four places, shared by the tests of a module."""
    engine = await Engine.start(real_config())
    yield engine
    await engine.stop()


@pytest.fixture(scope="module")
def model() -> Iterator[NativeModel]:
    """The bundled model by itself, in this process."""
    model = NativeModel(str(model_path()), 0)
    yield model
    model.close()
