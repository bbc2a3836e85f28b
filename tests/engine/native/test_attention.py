"""Attention: what a plain computation in double precision gives, for each row alone, in company and in a prompt.

(scripts/attention.h)
"""

from __future__ import annotations

import ctypes
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.native import library
from tests.fixtures.ggml_graph import F16, F32, GgmlGraph, Tensor

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Inputs = tuple[Floats, Halves, Halves, Halves]
"""Queries, keys, values and the mask."""
_UNWRITTEN = 9
_TOLERANCE = 2e-5
"""Values are of size one; ggml's own kernel, which adds them in half floats, is off by 0.003."""


class Attention:
    """``ggml_flash_attn_ext`` by itself."""

    def __init__(self, kernels: ctypes.CDLL) -> None:
        self._kernels = kernels

    def __call__(
        self, q: Floats, k: Halves, v: Halves, mask: Halves | None, *, threads: int, softcap: float = 0.0
    ) -> Floats:
        """``q`` is ``[streams, heads, tokens, width]``, ``k`` and ``v`` ``[streams, heads of keys, cells, width]``.

        ``mask`` is ``[streams, 1, tokens, cells]``, what comes out ``[streams, tokens, heads, width]``.
        """
        streams, heads, tokens, width = q.shape
        shape = (streams, tokens, heads, v.shape[3])
        given = [array.nbytes for array in (q, k, v, mask) if array is not None]
        with GgmlGraph(self._kernels, sum(given) + 4 * math.prod(shape)) as graph:
            tensors = [
                None if array is None else graph.tensor(kind, array.shape, array)
                for kind, array in ((F32, q), (F16, k), (F16, v), (F16, mask))
            ]
            options = (ctypes.c_float(width**-0.5), ctypes.c_float(0), ctypes.c_float(softcap))
            out = Tensor(graph.ggml.ggml_flash_attn_ext(graph.context, *tensors, *options))
            return graph.compute(out, shape, threads=threads)


def _expected(q: Floats, k: Halves, v: Halves, mask: Halves | None) -> npt.NDArray[np.float64]:
    times = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(array.astype(np.float64), times, axis=1) for array in (k, v))
    scores = np.einsum("shtd,shcd->shtc", q.astype(np.float64), keys) * q.shape[3] ** -0.5
    if mask is not None:
        scores += mask.astype(np.float64)
    tops = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(tops), 0, tops))
    totals = weights.sum(-1, keepdims=True)
    shares = weights / np.where(totals == 0, 1, totals)
    out: npt.NDArray[np.float64] = np.einsum("shtc,shcd->sthd", shares, values)
    return out


@pytest.fixture(scope="module")
def attention(avx2_kernels: ctypes.CDLL) -> Attention:
    return Attention(avx2_kernels)


def _some(
    seed: int, streams: int, heads: int, shared: int, tokens: int, width: int, cells: int, seen: float
) -> Inputs:
    random = np.random.default_rng(seed)
    q = random.standard_normal((streams, heads * shared, tokens, width)).astype(np.float32)
    k, v = (random.standard_normal((streams, heads, cells, width)).astype(np.float16) for _ in range(2))
    hidden = random.random((streams, 1, tokens, cells)) >= seen
    hidden[..., : cells // 3] |= random.random() < 0.5
    q *= np.float32(random.choice([0.01, 1, 20]))
    return q, k, v, np.where(hidden, -np.inf, 0).astype(np.float16)


@settings(max_examples=150, deadline=None)
@given(
    inputs=st.builds(
        _some,
        seed=st.integers(0, 1000),
        streams=st.integers(1, 4),
        heads=st.integers(1, 3),
        shared=st.integers(1, 7),
        tokens=st.sampled_from([1, 1, 1, 2, 5, 16, 63]),
        width=st.sampled_from([16, 32, 64, 80, 128, 256]),
        cells=st.sampled_from([1, 3, 64, 65, 100, 256, 511, 512, 700]),
        seen=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    ),
    threads=st.integers(1, 5),
)
def test_it_is_what_double_precision_gives(attention: Attention, inputs: Inputs, threads: int) -> None:
    q, k, v, mask = inputs
    got = attention(q, k, v, mask, threads=threads)
    np.testing.assert_allclose(got, _expected(q, k, v, mask), rtol=0, atol=_TOLERANCE)


def _in_order(
    seed: int, streams: int, heads: int, shared: int, tokens: int, width: int, before: int
) -> Inputs:
    """The last ``tokens`` of a sequence, behind ``before`` others: each sees what came before it, and itself. Behind
    them are cells that nobody wrote."""
    cells = before + tokens + _UNWRITTEN
    q, k, v, mask = _some(seed, streams, heads, shared, tokens, width, cells, 1.0)
    mask[:] = 0
    for token in range(tokens):
        mask[:, :, token, before + token + 1 :] = -np.inf
    k[:, :, before + tokens :] = v[:, :, before + tokens :] = np.nan
    return q, k, v, mask


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.builds(
        _in_order,
        seed=st.integers(0, 1000),
        streams=st.integers(1, 2),
        heads=st.integers(1, 2),
        shared=st.integers(1, 5),
        tokens=st.sampled_from([4, 12, 17, 64, 100]),
        width=st.sampled_from([16, 64, 80, 128, 256]),
        before=st.sampled_from([0, 1, 63, 64, 200]),
    ),
    threads=st.integers(1, 3),
)
def test_of_a_prompt_it_is_what_double_precision_gives(
    attention: Attention, inputs: Inputs, threads: int
) -> None:
    q, k, v, mask = inputs
    got = attention(q, k, v, mask, threads=threads)
    written = k.shape[2] - _UNWRITTEN
    expected = _expected(q, k[:, :, :written], v[:, :, :written], mask[..., :written])
    np.testing.assert_allclose(got, expected, rtol=0, atol=_TOLERANCE)


@pytest.mark.parametrize(("shared", "width"), [(1, 64), (3, 64), (4, 128), (5, 80)])
@pytest.mark.parametrize("before", [0, 70, 300])
def test_a_token_gets_the_same_alone_and_in_a_prompt(
    attention: Attention, shared: int, width: int, before: int
) -> None:
    """So how a prompt was cut, and what of it a cache held, changes nothing."""
    tokens = 50
    q, k, v, mask = _in_order(6, 1, 2, shared, tokens, width, before)
    together = attention(q, k, v, mask, threads=2)
    for token in range(tokens):
        part = slice(token, token + 1)
        alone = attention(q[:, :, part].copy(), k, v, mask[:, :, part].copy(), threads=1)
        assert alone.tobytes() == together[:, part].tobytes()
    half = slice(tokens // 2, None)
    cut = attention(q[:, :, half].copy(), k, v, mask[:, :, half].copy(), threads=3)
    assert cut.tobytes() == together[:, half].tobytes()


@pytest.mark.parametrize("shared", [1, 3, 12])
def test_tokens_of_several_sequences_in_one_cache_have_nothing_of_each_other(
    attention: Attention, shared: int
) -> None:
    """Some decode, and one reads a prompt. What one of them has written may be anything, and how much is its own."""
    random = np.random.default_rng(7)
    cells = 400
    owner = random.integers(0, 4, cells)
    tokens = [(sequence, cells) for sequence in range(3)] + [(3, end) for end in range(cells - 40, cells)]
    q, k, v, mask = _some(8, 1, 2, shared, len(tokens), 64, cells, 1.0)
    for token, (sequence, end) in enumerate(tokens):
        mask[0, 0, token] = np.where((owner == sequence) & (np.arange(cells) < end), 0, -np.inf)
    together = attention(q, k, v, mask, threads=2)
    np.testing.assert_allclose(together, _expected(q, k, v, mask), rtol=0, atol=_TOLERANCE)
    spoilt = owner == 1
    k[:, :, spoilt] = v[:, :, spoilt] = np.inf
    after = attention(q, k, v, mask, threads=2)
    others = [token for token, (sequence, _) in enumerate(tokens) if sequence != 1]
    assert after[:, others].tobytes() == together[:, others].tobytes()


@pytest.mark.parametrize("cells", [70, 700])
@pytest.mark.parametrize("threads", [1, 2])
def test_without_a_mask(attention: Attention, cells: int, threads: int) -> None:
    for tokens in (1, 20):
        q, k, v, _ = _some(1, 2, 2, 3, tokens, 64, cells, 1.0)
        got = attention(q, k, v, None, threads=threads)
        np.testing.assert_allclose(got, _expected(q, k, v, None), rtol=0, atol=_TOLERANCE)


@pytest.mark.parametrize(("shared", "tokens"), [(1, 7), (3, 1), (4, 1), (7, 1), (2, 5)])
def test_a_row_gets_the_same_alone_and_in_company(attention: Attention, shared: int, tokens: int) -> None:
    q, k, v, mask = _some(2, 3, 2, shared, tokens, 64, 300, 0.6)
    together = attention(q, k, v, mask, threads=2)
    for stream in range(3):
        for head in range(2 * shared):
            for token in range(tokens):
                keys = slice(head // shared, head // shared + 1)
                alone = attention(
                    q[stream : stream + 1, head : head + 1, token : token + 1].copy(),
                    k[stream : stream + 1, keys].copy(),
                    v[stream : stream + 1, keys].copy(),
                    mask[stream : stream + 1, :, token : token + 1].copy(),
                    threads=1,
                )
                assert alone.tobytes() == together[stream, token, head].tobytes()


@pytest.mark.parametrize("hidden", [slice(100, None), slice(0, 3), slice(7, 200), slice(1, None, 2)])
def test_what_is_hidden_is_not_read(attention: Attention, hidden: slice) -> None:
    """Cells that nobody wrote, or another sequence did, may hold anything."""
    q, k, v, mask = _some(3, 1, 1, 3, 1, 64, 256, 1.0)
    mask[:] = 0
    mask[..., hidden] = -np.inf
    expected = attention(q, k, v, mask, threads=2)
    k[..., hidden, :] = np.nan
    v[..., hidden, :] = np.nan
    np.testing.assert_array_equal(attention(q, k, v, mask, threads=2), expected)


@pytest.mark.parametrize("cells", [1, 7, 8, 9, 16, 17, 40, 65])
def test_what_the_last_one_left_is_not_read(attention: Attention, cells: int) -> None:
    """Each thread keeps its memory: a block that is not full has that of another model or request behind its cells."""
    q, k, v, mask = _some(9, 1, 1, 3, 20, 64, 128, 1.0)
    mask[:] = 0
    attention(q, np.full_like(k, np.nan), np.full_like(v, np.nan), mask, threads=1)
    q, k, v, mask = _some(9, 1, 1, 3, 20, 64, cells, 1.0)
    mask[:] = 0
    got = attention(q, k, v, mask, threads=1)
    np.testing.assert_allclose(got, _expected(q, k, v, mask), rtol=0, atol=_TOLERANCE)


def test_where_cells_lie_changes_nothing(attention: Attention) -> None:
    """In a shared cache a sequence's cells lie between those of others: here so, there so."""
    q, k, v, mask = _some(4, 1, 2, 3, 1, 64, 130, 1.0)
    mask[:] = 0
    expected = attention(q, k, v, mask, threads=1)
    random = np.random.default_rng(5)
    for cells in (200, 511):
        places = np.sort(random.choice(cells, 130, replace=False))
        keys, values = (random.standard_normal((1, 2, cells, 64)).astype(np.float16) for _ in range(2))
        keys[:, :, places], values[:, :, places] = k, v
        seen = np.full((1, 1, 1, cells), -np.inf, np.float16)
        seen[..., places] = 0
        assert attention(q, keys, values, seen, threads=1).tobytes() == expected.tobytes()


def test_it_tells_whether_it_was_asked_to_compute(attention: Attention) -> None:
    """So a load knows whether a model's attention is ours without knowing what ours is for."""
    q, k, v, mask = _some(4, 1, 2, 3, 1, 64, 256, 1.0)
    library.has_attended()
    attention(q, k, v, mask, threads=2)
    assert library.has_attended()
    assert not library.has_attended()
    attention(q, k, v, mask, threads=2, softcap=30.0)
    assert not library.has_attended()
