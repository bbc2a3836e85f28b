"""Answers of the bundled model: stable, streamed as they are, each its own, and refused by name."""

from __future__ import annotations

import asyncio

import pytest

from engine.engine import Engine
from engine.errors import ContextLengthExceeded, InvalidRequest, NibbleError
from engine.prompt import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from tests.engine.real import CONTEXT, GREEDY, STORY, answer, answers, asking, chat

_ALL_BUT_300 = dict.fromkeys(range(300, 49152), -100.0)
pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


async def test_the_facts_of_the_bundled_model(engine: Engine) -> None:
    facts = engine.facts
    assert (facts.architecture, facts.context, facts.context_trained, facts.parallel) == (
        "llama",
        CONTEXT,
        8192,
        4,
    )
    assert (facts.vocabulary, facts.has_chat_template, facts.threads) == (49152, True, 1)
    assert 130_000_000 < facts.parameters < 140_000_000


async def test_a_text_is_continued_with_sense(engine: Engine) -> None:
    told = await answer(engine, asking("The capital of France is the city of", max_tokens=4))
    assert "Paris" in told.text


async def test_a_chat_ends_by_itself_and_shows_no_control_token(engine: Engine) -> None:
    told = await answer(engine, asking(chat("What is 1+1?"), max_tokens=40))
    assert told.end.reason == "stop"
    assert told.text
    assert "<|im_" not in told.text


async def test_pieces_come_step_by_step_and_add_up(engine: Engine) -> None:
    told = await answer(engine, asking(max_tokens=16, ignore_eos=True))
    assert len(told.texts) > 4, "several pieces, although repetitions may come several tokens at once"
    assert (told.end.completion_tokens, told.end.reason) == (16, "length")
    again = await answer(engine, asking(max_tokens=16, ignore_eos=True))
    assert again.text == told.text


async def test_a_stop_string_ends_the_answer_before_it(engine: Engine) -> None:
    full = (await answer(engine, asking(max_tokens=16, ignore_eos=True))).text
    stop = full[10:14]
    told = await answer(engine, asking(max_tokens=16, ignore_eos=True, stop=(stop,)))
    assert told.text == full[: full.index(stop)]
    assert told.end.reason == "stop"


async def test_sixteen_at_once_on_four_places_each_get_their_own_answer(engine: Engine) -> None:
    words = [
        "apple", "river", "stone", "cloud", "tiger", "piano", "bread", "glass",
        "horse", "lemon", "paper", "queen", "robot", "sugar", "table", "wheel",
    ]  # fmt: skip
    requests = [asking(f"{word}, " * 6 + f"{word},", max_tokens=4) for word in words]
    told = await asyncio.gather(*(answer(engine, request) for request in requests))
    for word, one in zip(words, told, strict=True):
        assert word in one.text
        assert not any(other in one.text for other in words if other != word)
    assert engine.stats.running == engine.stats.waiting == 0


async def test_a_seed_reproduces_and_choices_differ(engine: Engine) -> None:
    request = asking(n=4, max_tokens=12, sampling=SamplingParams(temperature=1.2, seed=42))
    first = await answers(engine, request)
    assert len({told.text for told in first}) == 4
    assert [told.text for told in await answers(engine, request)] == [told.text for told in first]
    other = asking(n=4, max_tokens=12, sampling=SamplingParams(temperature=1.2, seed=43))
    assert [told.text for told in await answers(engine, other)] != [told.text for told in first]


async def test_choices_compute_their_prompt_once(engine: Engine) -> None:
    text = "The museum of unusual clocks opens at nine, and its keeper, who is never late, greets every visitor with"
    before = engine.stats
    told = await answers(engine, asking(text, n=4, max_tokens=4, sampling=SamplingParams(seed=1)))
    assert [one.end.prompt_tokens > 0 for one in told] == [True, False, False, False]
    prompt = told[0].end.prompt_tokens
    after = engine.stats
    assert after.prompt_tokens_total - before.prompt_tokens_total == prompt


async def test_control_text_of_a_user_is_plain_text(engine: Engine) -> None:
    async def prompt_tokens(content: str) -> int:
        return (await answer(engine, asking(chat(content), max_tokens=1))).end.prompt_tokens

    empty = await prompt_tokens("")
    plain = await prompt_tokens("<|im_end|>")
    assert plain > empty + 1, "one token more would be the control token itself"
    honoured = await answer(engine, asking("<|im_end|>", max_tokens=1))
    assert honoured.end.prompt_tokens == 1, "a raw prompt is the writer's own responsibility"


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(engine: Engine) -> None:
    prompt = TokenPrompt((100,) * CONTEXT)
    with pytest.raises(ContextLengthExceeded, match=rf"{CONTEXT} tokens.*{CONTEXT + 5}"):
        await answer(engine, asking(prompt, max_tokens=5))


async def test_an_answer_may_fill_the_context_to_the_last_token(engine: Engine) -> None:
    prompt = TokenPrompt((100,) * (CONTEXT - 3))
    told = await answer(engine, asking(prompt, max_tokens=None, ignore_eos=True))
    assert told.end.completion_tokens == 3
    assert told.end.reason == "length"


@pytest.mark.parametrize(
    "request_",
    [
        asking(TokenPrompt((-1,))),
        asking(TokenPrompt((49152,))),
        asking(TokenPrompt((2**40,))),
        asking(sampling=SamplingParams(logit_bias={49152: 1.0})),
        asking(max_tokens=0),
        asking("lone \ud800 surrogate"),
        asking(chat("lone \udfff surrogate")),
        EngineRequest(prompts=(TextPrompt("a"), TokenPrompt((-1,))), sampling=GREEDY, max_tokens=3),
    ],
    ids=["negative", "past", "far-past", "bias", "nothing", "surrogate", "chat-surrogate", "second"],
)
async def test_what_cannot_be_served_is_a_typed_error_and_the_worker_lives(
    engine: Engine, request_: EngineRequest
) -> None:
    pid = engine.worker_pid
    with pytest.raises(NibbleError) as caught:
        await answers(engine, request_)
    if "surrogate" not in repr(request_):
        assert isinstance(caught.value, InvalidRequest)
    await answer(engine, asking(max_tokens=1))
    assert engine.worker_pid == pid


@pytest.mark.parametrize("letter", ["a", " ", "\n", "é", "\x00", "🙂"])
async def test_a_great_deal_of_one_character_is_refused_and_the_worker_lives(
    engine: Engine, letter: str
) -> None:
    pid = engine.worker_pid
    with pytest.raises(ContextLengthExceeded):
        await answer(engine, asking(letter * 60_000, max_tokens=1))
    assert engine.worker_pid == pid


async def test_an_empty_text_and_odd_characters_are_served(engine: Engine) -> None:
    for prompt in ("", "\x00", "a\x00b", "🙂", "\u202e", "\U0010fffe"):
        assert (await answer(engine, asking(prompt, max_tokens=2))).end.completion_tokens >= 1
    empty = ChatPrompt((ChatMessage(role="user", content=""),))
    assert (await answer(engine, asking(empty, max_tokens=2))).end.completion_tokens >= 1


async def test_a_banned_token_never_comes(engine: Engine) -> None:
    full = await answer(engine, asking(STORY, max_tokens=1))
    assert full.text
    banned = asking(
        max_tokens=1,
        sampling=SamplingParams(temperature=0.0, logit_bias=_ALL_BUT_300),
    )
    told = await answer(engine, banned)
    assert told.text != full.text
