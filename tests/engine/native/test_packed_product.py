"""Weights in the layout for AMX times columns (scripts/packed_product.h): what is right, and each column as alone."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp import _ggml

from tests.fixtures.ggml_graph import (
    F32,
    Q4_0,
    Q4_1,
    Q4_K,
    Q8_0,
    BufferType,
    GgmlGraph,
    Tensor,
    quantize,
    uneven,
)

Matrix = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
_BLOCK = 32
_ROWS = 32
"""Weights are packed where they have a whole number of so many rows."""
_TYPES = [Q4_0, Q4_1, Q8_0, Q4_K]


class PackedProducts:
    """``ggml_mul_mat`` by itself, of weights in a buffer for AMX."""

    def __init__(self, kernels: ctypes.CDLL, buffer_type: BufferType) -> None:
        self._kernels = kernels
        self._buffer_type = buffer_type

    def __call__(self, kind: int, weights: Bytes, columns: Matrix, *, threads: int) -> Matrix:
        """``[columns, rows]``."""
        count, width = columns.shape
        rows = len(weights)
        with GgmlGraph(self._kernels, columns.nbytes + 4 * count * rows) as graph:
            left = graph.packed(self._buffer_type, kind, (rows, width), weights)
            right = graph.tensor(F32, columns.shape, columns)
            product = Tensor(graph.ggml.ggml_mul_mat(graph.context, left, right))
            return graph.compute(product, (count, rows), threads=threads)


@pytest.fixture(scope="module")
def products(avx2_kernels: ctypes.CDLL) -> PackedProducts:
    if " amx_int8 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the layout is for processors with AMX")
    assert avx2_kernels.nibble_packed_columns() == 16
    return PackedProducts(avx2_kernels, _buffer_type(avx2_kernels))


def _buffer_type(kernels: ctypes.CDLL) -> BufferType:
    """The one for AMX, among those that ggml's processors have beside the plain one."""
    ggml = _ggml.libggml
    for function in (
        kernels.ggml_backend_cpu_reg,
        ggml.ggml_backend_reg_dev_get,
        ggml.ggml_backend_reg_get_proc_address,
    ):
        function.restype = ctypes.c_void_p
    ggml.ggml_backend_buft_name.restype = ctypes.c_char_p
    registry = ctypes.c_void_p(kernels.ggml_backend_cpu_reg())
    device = ctypes.c_void_p(ggml.ggml_backend_reg_dev_get(registry, ctypes.c_size_t(0)))
    address = ggml.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    list_of = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    found = list_of(device)
    for index in range(16):
        buffer_type = BufferType(found[index])
        if ggml.ggml_backend_buft_name(buffer_type) == b"AMX":
            return buffer_type
    raise AssertionError("ggml knows no buffers for AMX")


def _exact(
    kind: int, weights: Bytes, columns: Matrix
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The product with columns rounded to eight bits, in double precision; and what it would be if no term took from
    another, which is what rounding is measured by: a weight is a code times a scale and a least value.
    """
    blocks = columns.reshape(len(columns), -1, _BLOCK)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    rounded = np.rint(blocks * inverse).astype(np.float64) * (largest / np.float32(127))
    numbers = dequantize(weights, GGMLQuantizationType(kind)).astype(np.float64)
    numbers = numbers.reshape(len(numbers), -1, _BLOCK)
    sizes = 3 * np.abs(numbers).max(axis=2)
    return (
        np.einsum("rbk,cbk->cr", numbers, rounded),
        np.einsum("rb,cb->cr", sizes, np.abs(rounded).sum(axis=2)),
    )


def _check(products: PackedProducts, kind: int, weights: Bytes, columns: Matrix, *, threads: int) -> None:
    together = products(kind, weights, columns, threads=threads)
    alone = [products(kind, weights, column[None], threads=1)[0] for column in columns]
    assert together.tobytes() == np.stack(alone).tobytes()
    exact, size = _exact(kind, weights, columns)
    assert (np.abs(together - exact) <= 3e-7 * size + 1e-37).all()


def _width(kind: int, blocks: int) -> int:
    return blocks * (256 if kind == Q4_K else _BLOCK)


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(_TYPES),
    blocks=st.integers(1, 20),
    strips=st.integers(1, 7),
    columns=st.integers(1, 50),
    threads=st.integers(1, 5),
    exponent=st.integers(-9, 2),
    seed=st.integers(0, 1000),
)
def test_columns_give_what_is_right_together_and_alone(
    products: PackedProducts,
    kind: int,
    blocks: int,
    strips: int,
    columns: int,
    threads: int,
    exponent: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    width = _width(kind, blocks)
    weights = random.standard_normal((strips * _ROWS, width)).astype(np.float32)
    weights += np.float32(random.choice([0, 0, 3]))
    values = uneven(random, (columns, width), exponent)
    _check(products, kind, quantize(kind, weights), values, threads=threads)


@pytest.mark.parametrize("kind", _TYPES)
@pytest.mark.parametrize("columns", [1, 2, 7, 15, 16, 17, 31, 33, 96, 511])
def test_every_number_of_columns(products: PackedProducts, kind: int, columns: int) -> None:
    random = np.random.default_rng(columns)
    weights = random.standard_normal((96, 768)).astype(np.float32)
    values = random.standard_normal((columns, 768)).astype(np.float32)
    _check(products, kind, quantize(kind, weights), values, threads=2)


@pytest.mark.parametrize("kind", _TYPES)
def test_the_largest_codes_do_not_run_over(products: PackedProducts, kind: int) -> None:
    for sign in (1.0, -1.0):
        weights = np.full((_ROWS, 512), 8.0, np.float32)
        weights[:, ::_BLOCK] = -8.0
        values = np.full((8, 512), sign * 127.0, np.float32)
        _check(products, kind, quantize(kind, weights), values, threads=2)


@pytest.mark.parametrize("kind", _TYPES)
def test_values_that_are_no_numbers_end_nothing(products: PackedProducts, kind: int) -> None:
    packed = quantize(kind, np.ones((_ROWS, 256), np.float32))
    columns = np.ones((4, 256), np.float32)
    columns[1] = np.nan
    columns[2] = np.inf
    columns[3] = 1e38
    got = products(kind, packed, columns, threads=2)
    assert got[0].tobytes() == products(kind, packed, columns[:1], threads=1)[0].tobytes()
