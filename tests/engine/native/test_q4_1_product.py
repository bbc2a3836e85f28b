"""Weights of Q4_1 times columns (scripts/q4_1_product.h): what is right, and for each column alone as in company."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.ggml_graph import F32, Q4_1, GgmlGraph, Tensor, quantize, uneven

Matrix = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
_BLOCK, _BLOCK_BYTES = 32, 20


class Products:
    """``ggml_mul_mat`` by itself."""

    def __init__(self, kernels: ctypes.CDLL) -> None:
        self._kernels = kernels

    def multiply(
        self, weights: npt.NDArray[np.uint8], columns: Matrix, *, threads: int, gap: int = 0
    ) -> Matrix:
        """``[columns, rows]``. ``gap`` numbers lie between a column and the next."""
        count, width = columns.shape
        spread = np.full((count, width + gap), np.nan, np.float32)
        spread[:, :width] = columns
        out_bytes = 4 * count * len(weights)
        with GgmlGraph(self._kernels, weights.nbytes + spread.nbytes + out_bytes) as graph:
            left = graph.tensor(Q4_1, (len(weights), width), weights)
            right = graph.tensor(F32, spread.shape, spread)
            sizes = (ctypes.c_int64(width), ctypes.c_int64(count), ctypes.c_size_t(spread.strides[0]))
            view = Tensor(graph.ggml.ggml_view_2d(graph.context, right, *sizes, ctypes.c_size_t(0)))
            product = Tensor(graph.ggml.ggml_mul_mat(graph.context, left, view))
            return graph.compute(product, (count, len(weights)), threads=threads)


@pytest.fixture(scope="module")
def products(avx2_kernels: ctypes.CDLL) -> Products:
    assert avx2_kernels.nibble_q4_1_columns() == 32
    return Products(avx2_kernels)


def _check(products: Products, weights: Matrix, columns: Matrix, *, threads: int, gap: int = 0) -> None:
    packed = quantize(Q4_1, weights)
    together = products.multiply(packed, columns, threads=threads, gap=gap)
    alone = [products.multiply(packed, column[None], threads=1)[0] for column in columns]
    assert together.tobytes() == np.stack(alone).tobytes()
    exact, size = _exact(packed, columns)
    assert (np.abs(together - exact) <= 4e-7 * size + 1e-37).all()


def _exact(packed: npt.NDArray[np.uint8], columns: Matrix) -> tuple[Doubles, Doubles]:
    """The product with columns rounded to eight bits, as the format has it, in double precision; and what it would be
    if no term took from another, which is what rounding is measured by.
    """
    blocks = columns.reshape(len(columns), -1, _BLOCK)
    largest = np.abs(blocks).max(axis=2)
    scales = largest / np.float32(127)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(scales), where=largest > 0)
    codes = np.rint(blocks * inverse[..., None])
    # Both are kept as half floats, and the sum stands for the codes wherever the weights' least value is meant.
    sums = (codes.sum(axis=2) * scales).astype(np.float16).astype(np.float64)
    rounded = scales.astype(np.float16).astype(np.float64)[..., None] * codes
    scale_and_least = packed.reshape(len(packed), -1, _BLOCK_BYTES)[..., :4].copy().view(np.float16)
    scale, least = (scale_and_least[..., index].astype(np.float64) for index in (0, 1))
    nibbles = packed.reshape(len(packed), -1, _BLOCK_BYTES)[..., 4:]
    weights = np.concatenate([nibbles & 15, nibbles >> 4], axis=2) * scale[..., None]
    parts = np.einsum("rbk,cbk->crb", weights, rounded), np.einsum("rb,cb->crb", least, sums)
    total = parts[0].sum(axis=2) + parts[1].sum(axis=2)
    return total, np.abs(parts[0]).sum(axis=2) + np.abs(parts[1]).sum(axis=2)


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.integers(1, 20),
    rows=st.integers(1, 70),
    columns=st.integers(1, 80),
    threads=st.integers(1, 5),
    gap=st.sampled_from([0, 0, 1, 32]),
    exponent=st.integers(-9, 2),
    seed=st.integers(0, 1000),
)
def test_columns_give_what_is_right_together_and_alone(
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
    values = uneven(random, (columns, blocks * _BLOCK), exponent)
    _check(products, weights, values, threads=threads, gap=gap)


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, 511])
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
    packed = quantize(Q4_1, random.standard_normal((48, 1536)).astype(np.float32))
    columns = random.standard_normal((12, 1536)).astype(np.float32)
    expected = columns @ dequantize(packed, GGMLQuantizationType.Q4_1).T
    got = products.multiply(packed, columns, threads=2)
    # Columns are rounded to eight bits.
    np.testing.assert_allclose(got, expected, rtol=0, atol=0.02 * float(np.abs(expected).max()))


def test_values_that_are_no_numbers_end_nothing(products: Products) -> None:
    packed = quantize(Q4_1, np.ones((32, 64), np.float32))
    columns = np.ones((4, 64), np.float32)
    columns[1] = np.nan
    columns[2] = np.inf
    columns[3] = 1e38
    got = products.multiply(packed, columns, threads=2)
    assert got[0].tobytes() == products.multiply(packed, columns[:1], threads=1)[0].tobytes()
