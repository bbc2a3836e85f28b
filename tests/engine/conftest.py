from __future__ import annotations

import ctypes
import platform
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.engine import Engine
from engine.native import library
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


@pytest.fixture(scope="session")
def avx2_kernels() -> ctypes.CDLL:
    """ggml's library of our own build, on a processor that our kernels are for."""
    library.initialise()
    if not library.set_patience(20):  # nor can it be asked on another system than Linux
        pytest.skip("this build of llama.cpp is not known to be ours: others have ggml's kernels alone")
    if platform.machine() != "x86_64" or " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the kernels are for processors with AVX2")
    (kernels,) = library.kernel_libraries()
    return kernels
