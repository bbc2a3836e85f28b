"""Weights of Q4_1 times many columns: what comes out is what each column gives by itself (scripts/q4_1_product.h)."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cpp import _ggml

from engine.native import library

Matrix = npt.NDArray[np.float32]
_F32, _Q4_1 = 0, 3
"""enum ggml_type"""
_BLOCK, _BLOCK_BYTES = 32, 20


class _Parameters(ctypes.Structure):
    """struct ggml_init_params"""

    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Products:
    """``ggml_mul_mat`` by itself, through the library's own functions."""

    def __init__(self, kernels: ctypes.CDLL) -> None:
        self._ggml: Any = _ggml.libggml
        self._compute: Any = kernels.ggml_graph_compute_with_ctx
        pointers = ("ggml_init", "ggml_new_tensor_2d", "ggml_view_2d", "ggml_mul_mat", "ggml_new_graph")
        for name in (*pointers, "ggml_get_data"):
            getattr(self._ggml, name).restype = ctypes.c_void_p
        self._ggml.ggml_init.argtypes = (_Parameters,)

    def quantize(self, values: Matrix) -> npt.NDArray[np.uint8]:
        """Rows of Q4_1."""
        rows, width = values.shape
        packed = np.empty((rows, width // _BLOCK * _BLOCK_BYTES), np.uint8)
        quantize = self._ggml.ggml_quantize_chunk
        quantize.restype = ctypes.c_size_t
        source, place = (ctypes.c_void_p(array.ctypes.data) for array in (values, packed))
        sizes = (ctypes.c_int64(number) for number in (0, rows, width))
        assert quantize(_Q4_1, source, place, *sizes, None) == packed.nbytes
        return packed

    def multiply(
        self, weights: npt.NDArray[np.uint8], columns: Matrix, *, threads: int, gap: int = 0
    ) -> Matrix:
        """``[columns, rows]``. ``gap`` numbers lie between a column and the next."""
        ggml = self._ggml
        count, width = columns.shape
        size = 2**20 + weights.nbytes + 2 * (count + 1) * (width + gap + len(weights)) * 4 + 2**20
        context = ctypes.c_void_p(ggml.ggml_init(_Parameters(size, None, False)))
        try:
            left = self._tensor(context, _Q4_1, width, len(weights))
            right = self._tensor(context, _F32, width + gap, count)
            spread = np.full((count, width + gap), np.nan, np.float32)
            spread[:, :width] = columns
            for tensor, values in ((left, weights), (right, spread)):
                ctypes.memmove(ggml.ggml_get_data(tensor), values.ctypes.data, values.nbytes)
            row_bytes = ctypes.c_size_t((width + gap) * 4)
            sizes = (ctypes.c_int64(width), ctypes.c_int64(count), row_bytes, ctypes.c_size_t(0))
            right = ctypes.c_void_p(ggml.ggml_view_2d(context, right, *sizes))
            product = ctypes.c_void_p(ggml.ggml_mul_mat(context, left, right))
            graph = ctypes.c_void_p(ggml.ggml_new_graph(context))
            ggml.ggml_build_forward_expand(graph, product)
            assert self._compute(context, graph, threads) == 0
            out = np.empty((count, len(weights)), np.float32)
            ctypes.memmove(out.ctypes.data, ggml.ggml_get_data(product), out.nbytes)
            return out
        finally:
            ggml.ggml_free(context)

    def _tensor(self, context: ctypes.c_void_p, kind: int, width: int, rows: int) -> ctypes.c_void_p:
        sizes = (ctypes.c_int64(width), ctypes.c_int64(rows))
        return ctypes.c_void_p(self._ggml.ggml_new_tensor_2d(context, kind, *sizes))


@pytest.fixture(scope="module")
def products() -> Products:
    library.initialise()
    if not library.set_patience(20):
        pytest.skip("this build of llama.cpp is not ours: it has no such kernel")
    if platform.machine() != "x86_64" or " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the kernel is for processors with AVX2")
    (kernels,) = library.kernel_libraries()
    assert kernels.nibble_q4_1_columns() == 8
    return Products(kernels)


def _check(products: Products, weights: Matrix, columns: Matrix, *, threads: int, gap: int = 0) -> None:
    packed = products.quantize(weights)
    together = products.multiply(packed, columns, threads=threads, gap=gap)
    alone = [products.multiply(packed, column[None], threads=1)[0] for column in columns]
    assert together.tobytes() == np.stack(alone).tobytes()


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.integers(1, 20),
    rows=st.integers(1, 70),
    columns=st.integers(2, 40),
    threads=st.integers(1, 5),
    gap=st.sampled_from([0, 0, 1, 32]),
    exponent=st.integers(-9, 5),
    seed=st.integers(0, 1000),
)
def test_columns_together_give_what_each_gives_alone(
    products: Products,
    blocks: int,
    rows: int,
    columns: int,
    threads: int,
    gap: int,
    exponent: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((rows, blocks * _BLOCK)).astype(np.float32)
    values = random.standard_normal((columns, blocks * _BLOCK)) * 10.0**exponent
    values[random.random(values.shape) < 0.1] = 0
    values[:, : _BLOCK * int(random.integers(0, 2))] = 0
    _check(products, weights, values.astype(np.float32), threads=threads, gap=gap)


@pytest.mark.parametrize("columns", [2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 511])
def test_every_number_of_columns_with_rows_left_over(products: Products, columns: int) -> None:
    random = np.random.default_rng(columns)
    weights = random.standard_normal((67, 576)).astype(np.float32)
    _check(products, weights, random.standard_normal((columns, 576)).astype(np.float32), threads=2)


def test_the_largest_codes_do_not_run_over(products: Products) -> None:
    """All products of a block at their limit: sums of two products must fit in 16 bits, and of all in a float."""
    weights = np.tile(np.array([0.0, 15.0], np.float32), (33, 288))
    weights[::2, 0::2] = 15.0
    weights[::2, 31::32] = 0.0
    for sign in (1.0, -1.0):
        _check(products, weights, np.full((8, 576), sign * 127.0, np.float32), threads=2)


def test_it_is_the_product(products: Products) -> None:
    random = np.random.default_rng(1)
    packed = products.quantize(random.standard_normal((48, 1536)).astype(np.float32))
    columns = random.standard_normal((12, 1536)).astype(np.float32)
    expected = columns @ dequantize(packed, GGMLQuantizationType.Q4_1).T
    got = products.multiply(packed, columns, threads=2)
    # Columns are rounded to eight bits.
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.02 * float(np.abs(expected).max()))


def test_values_that_are_no_numbers_end_nothing(products: Products) -> None:
    packed = products.quantize(np.ones((32, 64), np.float32))
    columns = np.ones((4, 64), np.float32)
    columns[1] = np.nan
    columns[2] = np.inf
    columns[3] = 1e38
    got = products.multiply(packed, columns, threads=2)
    assert got[0].tobytes() == products.multiply(packed, columns[:1], threads=1)[0].tobytes()
