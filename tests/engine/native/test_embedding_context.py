"""The gate before llama.cpp's vectors: what would abort the process or read foreign memory is refused."""

from __future__ import annotations

from collections.abc import Iterator

import gguf
import numpy as np
import pytest

from engine.backend import DecodeFailed
from engine.config import Pooling
from engine.native.embedding_context import NativeEmbeddingContext
from engine.native.model import NativeModel
from tests.fixtures.tiny_gguf import Tiny, write_tiny

CONTEXT = 64


@pytest.fixture(scope="module", params=["bert", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeModel]:
    path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    tiny = Tiny(architecture=request.param, pooling=gguf.PoolingType.MEAN, context=CONTEXT)
    model = NativeModel(str(write_tiny(path, tiny)), 0)
    yield model
    model.close()


@pytest.fixture(scope="module")
def context(model: NativeModel) -> Iterator[NativeEmbeddingContext]:
    context = NativeEmbeddingContext(model, batch_tokens=256, sequences=3, threads=1, pooling="mean")
    yield context
    context.close()


def fill(context: NativeEmbeddingContext, *texts: list[int]) -> int:
    at = 0
    for slot, tokens in enumerate(texts):
        end = at + len(tokens)
        context.batch.token[at:end] = tokens
        context.batch.position[at:end] = np.arange(len(tokens))
        context.batch.slot[at:end] = slot
        at = end
    return at


def test_a_sound_batch(context: NativeEmbeddingContext) -> None:
    rows = context.embed(fill(context, [5, 6], [7]), 2)
    assert rows.shape == (2, 32)
    assert np.isfinite(rows).all()
    assert not np.allclose(rows[0], rows[1])


@pytest.mark.parametrize(("count", "sequences"), [(0, 1), (-1, 1), (257, 1), (1, 0), (1, 4), (2, -1)])
def test_a_batch_of_impossible_size(context: NativeEmbeddingContext, count: int, sequences: int) -> None:
    fill(context, [5, 6])
    with pytest.raises(DecodeFailed):
        context.embed(count, sequences)
    test_a_sound_batch(context)


@pytest.mark.parametrize(
    ("token", "position", "slot"),
    [(-1, 0, 0), (10_000, 0, 0), (5, -1, 0), (5, CONTEXT, 0), (5, 10**6, 0), (5, 0, -1), (5, 0, 1)],
)
def test_a_wrong_entry(context: NativeEmbeddingContext, token: int, position: int, slot: int) -> None:
    count = fill(context, [5, 6])
    context.batch.token[1], context.batch.position[1], context.batch.slot[1] = token, position, slot
    with pytest.raises(DecodeFailed):
        context.embed(count, 1)
    test_a_sound_batch(context)


def test_a_text_without_tokens(context: NativeEmbeddingContext) -> None:
    with pytest.raises(DecodeFailed):
        context.embed(fill(context, [5], [6]), 3)


@pytest.mark.parametrize("sequences", [1, 2, 3, 7, 100, 255, 256, 5000])
@pytest.mark.parametrize("batch_tokens", [1, 100, 256, 300])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_any_sizes_make_a_context(
    model: NativeModel, sequences: int, batch_tokens: int, pooling: Pooling
) -> None:
    context = NativeEmbeddingContext(
        model, batch_tokens=batch_tokens, sequences=sequences, threads=1, pooling=pooling
    )
    assert np.isfinite(context.embed(fill(context, [5, 6, 7]), 1)).all()
    context.close()
    context.close()
