"""Exp of a whole vocabulary's logits, and its sum: most of what drawing a token costs.

ggml has both in one pass, for its softmax (ggml/src/ggml-cpu/vec.cpp, ggml_vec_soft_max_f32): of 262,144 logits 140 us,
where numpy's exp alone takes 340 (AMD EPYC, AVX2). The function is no part of ggml's interface, so a library that does
not show it, as on Windows, is done without.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from engine.native import library

Floats = npt.NDArray[np.float32]
_Kernel = Callable[[int, int, int, float], float]


def exponentials(values: Floats, base: float, out: Floats) -> float:
    """Write exp(``values`` - ``base``), shape (n,), to ``out``, shape (n,), and return the sum.

    ``base`` is finite, and no less than the largest of ``values``, which may be -inf. Both arrays are contiguous.
    """
    kernel = softmax_kernel()
    if kernel is None:
        return numpy_exponentials(values, base, out)
    return kernel(values.size, out.ctypes.data, values.ctypes.data, base)


def numpy_exponentials(values: Floats, base: float, out: Floats) -> float:
    """The same where ggml's function is not to be had."""
    np.exp(np.subtract(values, np.float32(base), out=out), out=out)
    return float(out.sum(dtype=np.float64))


@functools.cache
def softmax_kernel() -> _Kernel | None:
    """ggml's function of (n, address of out, address of values, base); None where the library does not show it."""
    library.initialise()
    kernels = library.kernels_with("ggml_vec_soft_max_f32")
    if kernels is None:
        return None
    kernel = kernels.ggml_vec_soft_max_f32
    kernel.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float)
    kernel.restype = ctypes.c_double
    return cast("_Kernel", kernel)
