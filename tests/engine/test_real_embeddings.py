"""Vectors and scores of tiny random models in real workers, against llama.cpp as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from engine.config import EngineConfig
from engine.embedding import EmbeddingInput, EmbeddingRequest, Embeddings, PairPrompt
from engine.engine import Engine
from engine.errors import ContextLengthExceeded, InvalidRequest, ModelLoadFailed, UnsupportedField
from engine.prompt import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from engine.question import ApplyTemplate, Describe, Description, Detokenize, Text, Tokenize, Tokenized
from tests.engine.bare_embeddings import BareModel
from tests.engine.real import answer, asking, until
from tests.fakes.steps import steps
from tests.fixtures.tiny_gguf import BYTES_AT, Tiny, write_tiny

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

CONTEXT = 192
NEAR = 5e-3
"""Flash attention adds up float16 in another order in another company; a wrong vector differs by tenths."""
TEXTS = ["the cat sat", "b", "the 9 cats sat there on the mat", "x y z " * 12, "the cat sat"]


def config(path: Path, **settings: object) -> EngineConfig:
    return EngineConfig(model_id="tiny", model_path=str(path), threads=1, **settings)  # type: ignore[arg-type]


@asynccontextmanager
async def running(path: Path, **settings: object) -> AsyncIterator[Engine]:
    engine = await Engine.start(config(path, **settings))
    try:
        yield engine
    finally:
        await engine.stop()


def vectors(answer: Embeddings) -> npt.NDArray[np.float64]:
    return np.array([np.frombuffer(row, dtype="<f4") for row in answer.vectors], dtype=np.float64)


def request(*inputs: EmbeddingInput | str, dimensions: int | None = None) -> EmbeddingRequest:
    read = tuple(TextPrompt(item) if isinstance(item, str) else item for item in inputs)
    return EmbeddingRequest(inputs=read, dimensions=dimensions, is_list=True)


KINDS = {
    "bert-mean": ("bert", gguf.PoolingType.MEAN),
    "bert-cls": ("bert", gguf.PoolingType.CLS),
    "llama-mean": ("llama", gguf.PoolingType.MEAN),
    "llama-last": ("llama", gguf.PoolingType.LAST),
}


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    architecture, pooling = KINDS[request.param]
    return write_tiny(
        tmp_path / f"{request.param}.gguf", Tiny(architecture=architecture, pooling=pooling, context=CONTEXT)
    )


@pytest.fixture
def bare(path: Path) -> Iterator[BareModel]:
    model = BareModel(path)
    yield model
    model.close()


async def test_batches_give_what_llama_cpp_gives_for_each_alone(path: Path, bare: BareModel) -> None:
    truth = np.array([bare.unit(bare.tokens(text)) for text in TEXTS])
    async with running(path) as engine:
        assert engine.facts.capabilities == ("embedding",)
        assert engine.facts.embedding_width == truth.shape[1]
        together = await engine.embed(request(*TEXTS))
        np.testing.assert_allclose(vectors(together), truth, atol=NEAR)
        np.testing.assert_allclose(np.linalg.norm(vectors(together), axis=1), 1, atol=1e-6)
        assert together.prompt_tokens == sum(len(bare.tokens(text)) for text in TEXTS)
        alone = [await engine.embed(request(text)) for text in TEXTS]
        np.testing.assert_allclose([vectors(one)[0] for one in alone], truth, atol=NEAR)
        by_tokens = await engine.embed(request(*(TokenPrompt(tuple(bare.tokens(text))) for text in TEXTS)))
        np.testing.assert_allclose(vectors(by_tokens), truth, atol=NEAR)


async def test_many_requests_at_once_each_get_their_own(path: Path, bare: BareModel) -> None:
    texts = [f"the {n % 10} cat {n // 10 % 10} sat {n // 100}" for n in range(120)]
    truth = np.array([bare.unit(bare.tokens(text)) for text in texts])
    async with running(path, parallel=7) as engine:
        asked = [engine.embed(request(*texts[n : n + 3])) for n in range(0, len(texts), 3)]
        told = await asyncio.gather(*asked)
        np.testing.assert_allclose(np.concatenate([vectors(one) for one in told]), truth, atol=NEAR)
        # Several requests were computed in one step.
        assert engine.stats.steps_total < len(asked)


async def test_2048_inputs_keep_their_order(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "bert.gguf", Tiny(architecture="bert", pooling=gguf.PoolingType.MEAN))
    texts = [f"{n} the cat" for n in range(2048)]
    bare = BareModel(path)
    async with running(path) as engine:
        told = vectors(await engine.embed(request(*texts)))
    assert told.shape == (2048, 32)
    for n in (0, 1, 500, 1023, 2047):
        np.testing.assert_allclose(told[n], bare.unit(bare.tokens(texts[n])), atol=NEAR)
    bare.close()


async def test_vectors_are_cut_only_where_the_model_was_trained_for_it(path: Path, bare: BareModel) -> None:
    whole = bare.unit(bare.tokens(TEXTS[0]))
    async with running(path) as engine:
        assert vectors(await engine.embed(request(TEXTS[0], dimensions=32))).shape == (1, 32)
        with pytest.raises(UnsupportedField) as caught:
            await engine.embed(request(TEXTS[0], dimensions=8))
        assert caught.value.param == "dimensions"
    async with running(path, is_matryoshka=True) as engine:
        (cut,) = vectors(await engine.embed(request(TEXTS[0], dimensions=8)))
        np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), atol=NEAR)
        with pytest.raises(InvalidRequest) as refused:
            await engine.embed(request(TEXTS[0], dimensions=33))
        assert refused.value.param == "dimensions"


async def test_wrong_inputs_are_refused_by_item_and_the_worker_serves_on(path: Path, bare: BareModel) -> None:
    longest = TokenPrompt((5,) * CONTEXT)
    async with running(path) as engine:
        assert engine.facts.context == CONTEXT
        for wrong in (TokenPrompt((5,) * (CONTEXT + 1)), TextPrompt("the cat " * CONTEXT)):
            with pytest.raises(ContextLengthExceeded) as long:
                await engine.embed(request("b", wrong))
            assert long.value.param == "input[1]"
            assert str(CONTEXT) in long.value.message
        for token in (-1, 10_000):
            with pytest.raises(InvalidRequest) as outside:
                await engine.embed(request(TokenPrompt((token,))))
            assert outside.value.param == "input[0]"
        with pytest.raises(InvalidRequest) as text:
            await answer(engine, asking("b"))
        assert (text.value.param, "/v1/embeddings" in text.value.message) == ("model", True)
        with pytest.raises(InvalidRequest) as pair:
            await engine.embed(request(PairPrompt("a", "b")))
        assert pair.value.param == "model"
        (told,) = vectors(await engine.embed(request(longest)))
        np.testing.assert_allclose(told, bare.unit([5] * CONTEXT), atol=NEAR)


async def test_a_client_that_leaves_frees_the_engine(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "bert.gguf", Tiny(architecture="bert", pooling=gguf.PoolingType.MEAN))
    async with running(path) as engine:
        task = asyncio.create_task(engine.embed(request(*["x y z " * 15] * 2048)))
        await until(lambda: engine.stats.steps_total > 0)
        task.cancel()
        await asyncio.wait({task})
        await engine.embed(request("the cat"))
        await until(lambda: engine.stats.waiting == 0)
        assert engine.stats.prompt_tokens_total < 2048 * 47


async def test_a_model_that_generates_embeds_only_when_it_is_set_to(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "llama.gguf", Tiny())
    async with running(path) as engine:
        assert engine.facts.capabilities == ("completion",)
        with pytest.raises(InvalidRequest) as caught:
            await engine.embed(request("b"))
        assert (caught.value.param, "`embed`" in caught.value.message) == ("model", True)
        await answer(engine, asking("b"))
    bare = BareModel(path, pooling=3)
    async with running(path, embeds=True) as engine:
        assert (engine.facts.capabilities, engine.facts.pooling) == (("embedding",), "last")
        np.testing.assert_allclose(
            vectors(await engine.embed(request("hi")))[0], bare.unit(bare.tokens("hi")), atol=NEAR
        )
    bare.close()


async def test_a_recurrent_model_is_not_loaded_for_vectors(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "mamba.gguf", Tiny(architecture="mamba"))
    with pytest.raises(ModelLoadFailed, match="recurrent"):
        await Engine.start(config(path, embeds=True))


async def test_a_reranker_scores_pairs(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "rank.gguf", Tiny(architecture="bert", pooling=gguf.PoolingType.RANK))
    bare = BareModel(path)
    pairs = [PairPrompt("the cat", text) for text in TEXTS]
    truth = []
    for pair in pairs:
        # As BERT was trained: [CLS] query [SEP] text [SEP].
        query, text = (bare.tokens(each, add_special=False) for each in (pair.query, pair.text))
        truth.append(1 / (1 + np.exp(-bare.raw([2, *query, 3, *text, 3])[0])))
    async with running(path) as engine:
        assert engine.facts.capabilities == ("rerank",)
        told = await engine.embed(request(*pairs))
        np.testing.assert_allclose(vectors(told)[:, 0], truth, atol=NEAR)
        assert len(set(truth)) > 1
        with pytest.raises(InvalidRequest) as caught:
            await engine.embed(request("b"))
        assert caught.value.param == "model"
    bare.close()


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


async def test_questions_are_answered_of_either_kind(tmp_path: Path) -> None:
    chat = write_tiny(tmp_path / "llama.gguf", Tiny(template=TEMPLATE))
    async with running(chat) as engine:
        told = await engine.ask(Tokenize("h</s>", add_special=True))
        assert isinstance(told, Tokenized)
        assert (told.tokens[0], told.tokens[-2:]) == (1, (BYTES_AT + ord("h"), 2))
        assert (told.pieces[0], told.pieces[-2:]) == (b"<s>", (b"h", b"</s>"))
        plain = await engine.ask(Tokenize("h</s>", parse_special=False))
        assert isinstance(plain, Tokenized)
        assert len(plain.tokens) > 4
        assert await engine.ask(
            Detokenize((1, 259, BYTES_AT + 0xC3, BYTES_AT + 0xA9, BYTES_AT + 0xFF))
        ) == Text("<s> hié\ufffd")
        prompt = ChatPrompt((ChatMessage(role="user", content="hi</s>"),))
        assert await engine.ask(ApplyTemplate(prompt)) == Text("<user>hi</s><assistant>")
        assert await engine.ask(Describe()) == Description(TEMPLATE, "<s>", "</s>")
        for tokens in ((-1,), (5, 260)):
            with pytest.raises(InvalidRequest) as caught:
                await engine.ask(Detokenize(tokens))
            assert caught.value.param == f"tokens[{len(tokens) - 1}]"
    bert = write_tiny(tmp_path / "bert.gguf", Tiny(architecture="bert", pooling=gguf.PoolingType.MEAN))
    async with running(bert) as engine:
        assert await engine.ask(Tokenize("the cat")) == Tokenized((5, 6), (b" the", b" cat"))
        with pytest.raises(InvalidRequest):
            await engine.ask(ApplyTemplate(prompt))


async def test_a_question_is_answered_while_the_model_computes(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "llama.gguf", Tiny(context=4096))
    async with running(path, context=4096) as engine:
        stream = steps(engine, asking(TokenPrompt((5,)), max_tokens=4000, ignore_eos=True))
        async for _ in stream:
            await engine.ask(Tokenize("hi"))
            assert engine.stats.generation_tokens_total < 4000
            break
        await stream.aclose()
