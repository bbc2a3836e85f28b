"""Passes over the logits of a whole vocabulary: most of what choosing a token costs.

Our build of llama.cpp has them, in scripts/vocabulary_scan.h. Other builds are done without: numpy takes twice as long.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.native import library

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


def exponentials(values: Floats, base: float, out: Floats) -> float:
    """Write exp(``values`` - ``base``), shape (n,), to ``out``, shape (n,), and return the sum.

    ``base`` is finite, and no less than the largest of ``values``, which may be -inf. Both arrays are contiguous.
    """
    kernels = scan_kernels()
    if kernels is None:
        return numpy_exponentials(values, base, out)
    total: float = kernels.exponentials(values.size, out.ctypes.data, values.ctypes.data, base)
    return total


def numpy_exponentials(values: Floats, base: float, out: Floats) -> float:
    """The same without our build."""
    np.exp(np.subtract(values, np.float32(base), out=out), out=out)
    return float(out.sum(dtype=np.float64))


def reaching(values: Floats, bound: float) -> Indices:
    """Indices of those of ``values``, shape (n,), contiguous, that are at least ``bound`` as a float32; in order."""
    kernels = scan_kernels()
    if kernels is None:
        return numpy_reaching(values, bound)
    found = np.empty(values.size, dtype=np.int64)
    count = kernels.reaching(values.size, found.ctypes.data, values.ctypes.data, bound)
    # A copy, as what was room for all of them would be kept with the few.
    return found[:count].astype(np.intp)


def numpy_reaching(values: Floats, bound: float) -> Indices:
    """The same without our build."""
    return np.flatnonzero(values >= np.float32(bound))


@dataclass(frozen=True, slots=True)
class ScanKernels:
    """The functions of scripts/vocabulary_scan.h, of numbers and addresses."""

    exponentials: Any
    reaching: Any


@functools.cache
def scan_kernels() -> ScanKernels | None:
    """None where this build does not have them."""
    library.initialise()
    kernels = library.kernels_with("nibble_exponentials")
    if kernels is None:
        return None
    arguments = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float)
    kernels.nibble_exponentials.argtypes = kernels.nibble_reaching.argtypes = arguments
    kernels.nibble_exponentials.restype = ctypes.c_double
    kernels.nibble_reaching.restype = ctypes.c_int64
    return ScanKernels(kernels.nibble_exponentials, kernels.nibble_reaching)
