"""What tests of the kernels share."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import pytest

from engine.native import library


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
