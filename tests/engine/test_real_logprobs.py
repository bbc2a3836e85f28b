"""Log-probabilities of the bundled model, against those that the bare context computes for the same tokens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from engine.core import EngineCore
from engine.engine import Engine
from engine.events import Finish, Piece
from engine.intake import Intake
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.prompt import TextPrompt, TokenPrompt
from engine.prompt_reader import PromptReader
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from engine.scheduler import equal_part
from engine.token_logprob import TokenLogprob
from tests.engine.answer_alone import log_softmax
from tests.engine.real import GREEDY, LONG_TEXT, STORY, answers, asking
from tests.fakes.steps import steps

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]
ROWS = 64
Logits = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def context(model: NativeModel) -> Iterator[NativeContext]:
    context = NativeContext(model, slots=1, slot_tokens=512, batch_tokens=512, threads=1)
    yield context
    context.close()


def bare_logprobs(
    context: NativeContext, tokens: list[int], most: int = ROWS
) -> list[npt.NDArray[np.float64]]:
    """The distribution behind each of ``tokens``, computed in equal chunks of at most ``most`` of them."""
    context.clear_slot(0)
    rows: list[npt.NDArray[np.float64]] = []
    while len(rows) < len(tokens):
        at = len(rows)
        count = equal_part(len(tokens) - at, most)
        context.batch.token[:count] = tokens[at : at + count]
        context.batch.position[:count] = np.arange(at, at + count)
        context.batch.slot[:count] = 0
        context.batch.wants_logits[:count] = 1
        rows += [log_softmax(row) for row in context.decode(count, count)]
    return rows


async def scored(engine: Engine, request: EngineRequest) -> tuple[str, list[TokenLogprob], Piece]:
    """The text of the one choice, its tokens, and its last piece."""
    text, last = "", None
    tokens: list[TokenLogprob] = []
    async with asyncio.timeout(60):
        async for events in steps(engine, request):
            for event in events:
                if isinstance(event, Piece):
                    if event.echo is not None:
                        text += event.echo.text
                        tokens += event.echo.logprobs or ()
                    text += event.text
                    tokens += event.logprobs or ()
                    last = event
    assert last is not None
    return text, tokens, last


def scoring(prompt: str | TokenPrompt, *, max_tokens: int, top: int = 1) -> EngineRequest:
    return msgspec.structs.replace(asking(prompt, max_tokens=max_tokens), echo=True, logprobs=top)


async def test_the_likelihood_of_a_long_text_is_the_bare_library_s(
    engine: Engine, model: NativeModel, context: NativeContext
) -> None:
    text, tokens, last = await scored(engine, scoring(LONG_TEXT, max_tokens=0, top=5))
    assert last.finish is not None
    ids = model.vocabulary.tokenize(LONG_TEXT, add_special=True, parse_special=True).tolist()
    assert (text, last.finish.prompt_tokens, last.finish.completion_tokens) == (LONG_TEXT, len(ids), 0)
    assert len(ids) > 300
    rows = bare_logprobs(context, ids)
    assert tokens[0].logprob is None
    for at in range(1, len(ids)):
        row, told = rows[at - 1], tokens[at]
        assert told.logprob == pytest.approx(row[ids[at]], abs=1e-3)
        assert [top.logprob for top in told.top] == pytest.approx(np.sort(row)[:-6:-1].tolist(), abs=1e-3)
        assert told.raw == model.vocabulary.piece(ids[at])
        assert text[told.offset :].encode().startswith(told.raw)
    exact = sum(float(rows[at - 1][ids[at]]) for at in range(1, len(ids)))
    assert sum(token.logprob or 0.0 for token in tokens) == pytest.approx(exact, abs=0.05)


async def test_a_likelihood_does_not_hang_on_what_came_before_or_runs_beside(engine: Engine) -> None:
    request = scoring(LONG_TEXT, max_tokens=1)
    _, alone, _ = await scored(engine, request)
    again, *others = await asyncio.gather(
        scored(engine, request), *(scored(engine, scoring(f"{word} {STORY}", max_tokens=0)) for word in "abc")
    )
    assert again[1] == alone
    assert again[2].finish is not None
    assert again[2].finish.cached_tokens == 0
    assert all(tokens[0].logprob is None for _, tokens, _ in others)


async def test_scored_tokens_are_those_that_were_sent(engine: Engine, model: NativeModel) -> None:
    ids = model.vocabulary.tokenize(STORY, add_special=True, parse_special=True).tolist()
    text, by_tokens, _ = await scored(engine, scoring(TokenPrompt(tuple(ids)), max_tokens=0))
    _, by_text, _ = await scored(engine, scoring(STORY, max_tokens=0))
    assert by_tokens == by_text
    assert text == STORY


def scored_with_drafts(
    model: NativeModel, context: NativeContext, request: EngineRequest
) -> tuple[str, list[TokenLogprob], Finish]:
    """What ``scored`` returns, from a core by whose clock one step takes as long as any other.

    By a real clock it hangs on the machine's noise whether drafts pay, and so whether there are any.
    """
    size = context.slot_tokens
    intake = Intake(model.vocabulary, PromptReader(model.vocabulary, None, context=size), context=size)
    core = EngineCore(
        context, end_tokens=model.vocabulary.end_tokens, clock=itertools.count(0.0, 1e-3).__next__
    )
    core.add(intake.sequences(1, request))
    text, finish = "", None
    tokens: list[TokenLogprob] = []
    while core.has_work:
        report = core.step()
        assert not report.failures
        for piece in report.pieces:
            if piece.echo is not None:
                text += piece.echo.text
                tokens += piece.echo.logprobs or ()
            text += piece.text
            tokens += piece.logprobs or ()
            finish = piece.finish
    intake.close()
    assert finish is not None
    return text, tokens, finish


async def test_hundreds_of_generated_tokens_are_scored_as_the_model_sees_them(
    model: NativeModel, context: NativeContext
) -> None:
    """With repetitions, so that many of them are drafted and come true several at a time."""
    prompt = "1, 2, 3, 1, 2, 3, 1, 2, 3,"
    request = EngineRequest(
        prompts=(TextPrompt(prompt),), max_tokens=300, sampling=GREEDY, ignore_eos=True, logprobs=3, echo=True
    )
    text, tokens, finish = scored_with_drafts(model, context, request)
    assert finish.accepted_tokens > 20
    assert b"".join(token.raw for token in tokens).decode() == text
    ids = model.vocabulary.tokenize(prompt, add_special=True, parse_special=True).tolist()
    answer = tokens[len(ids) :]
    assert len(answer) == finish.completion_tokens == 300
    whole = model.vocabulary.tokenize(text, add_special=True, parse_special=True).tolist()
    assert [model.vocabulary.piece(token) for token in whole] == [token.raw for token in tokens]
    rows = bare_logprobs(context, whole, most=1)
    exact = [float(rows[at - 1][whole[at]]) for at in range(len(ids), len(whole))]
    told = [token.logprob for token in answer if token.logprob is not None]
    # Drafts are checked in small batches, whose kernels round otherwise than those of one token.
    assert np.abs(np.subtract(told, exact)).mean() < 0.1
    assert finish.mean_logprob == pytest.approx(np.mean(told))
    # Greedy: what came is the likeliest, exactly.
    assert all(token.top[0].logprob == token.logprob for token in answer)


async def test_an_unlikely_text_is_less_likely(engine: Engine) -> None:
    async def likelihood(ending: str) -> float:
        _, tokens, _ = await scored(engine, scoring("The capital of France is" + ending, max_tokens=0))
        return tokens[-1].logprob or 0.0

    assert await likelihood(" Paris") > await likelihood(" cheese") + 3


async def test_candidates_are_ranked_by_their_mean_and_compute_their_prompt_once(engine: Engine) -> None:
    before = engine.stats
    request = msgspec.structs.replace(
        asking(LONG_TEXT, n=4, max_tokens=6, sampling=SamplingParams(temperature=1.5, seed=5)), is_ranked=True
    )
    told = await answers(engine, request)
    means = [one.end.mean_logprob for one in told]
    assert len(set(means)) == 4
    assert all(mean is not None and mean < 0 for mean in means)
    assert engine.stats.prompt_tokens_total - before.prompt_tokens_total == told[0].end.prompt_tokens
