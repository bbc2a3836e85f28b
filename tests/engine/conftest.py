from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from engine.engine import Engine
from tests.engine.real import real_config


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """The bundled model with four places, shared by the tests of a module."""
    engine = await Engine.start(real_config())
    yield engine
    await engine.stop()
