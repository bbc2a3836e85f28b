"""The same greedy text from a cold start, a cache in place, a copy, and a copy of a stream that runs; and how far
answers are the same alone and in company."""

from __future__ import annotations

import asyncio

import pytest

from engine.engine import Engine
from engine.events import Accepted
from tests.engine.real import LONG_TEXT, Told, answer, answers, asking, chat, until
from tests.fakes.steps import steps

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

_CITIES = (
    "The old and famous city of Rome, which lies on the Tiber and has seen many wars,",
    "Oslo, a town in the cold north that was once called Christiania by its kings,",
    "Lima, far away at the coast of Peru, where rain is hardly ever seen by anyone,",
)
_HEAD = LONG_TEXT[:450]


def _end(word: str) -> str:
    """More than 64 tokens: a shorter last chunk is computed by other kernels (see native/test_context.py)."""
    return " ".join(f"{word} {n}: the {word} is {n % 5} miles away." for n in range(8))


_ENDS = (_end("Boat"), _end("Hill"))


async def _forget_all(engine: Engine) -> None:
    """Overwrite every place with prompts that share nothing, all at once."""
    requests = [asking(f"{n} is {n} and {n + 1} is", max_tokens=8, ignore_eos=True) for n in range(4)]
    await asyncio.gather(*(answer(engine, request) for request in requests))


async def _cold(engine: Engine, text: str) -> Told:
    await _forget_all(engine)
    told = await answer(engine, asking(text, max_tokens=12))
    assert told.end.cached_tokens == 0
    return told


async def test_a_prefix_in_place_gives_the_same_text(engine: Engine) -> None:
    cold = await _cold(engine, _HEAD + _ENDS[0])
    await _forget_all(engine)
    head = await answer(engine, asking(_HEAD, max_tokens=1))
    told = await answer(engine, asking(_HEAD + _ENDS[0], max_tokens=12))
    assert told.end.cached_tokens >= head.end.prompt_tokens - 2
    assert told.text == cold.text
    again = await answer(engine, asking(_HEAD + _ENDS[0], max_tokens=1))
    assert again.end.cached_tokens == again.end.prompt_tokens - 1


async def test_a_copied_prefix_gives_the_same_text(engine: Engine) -> None:
    cold = [await _cold(engine, _HEAD + end) for end in _ENDS]
    await _forget_all(engine)
    for end, expected in zip(_ENDS, cold, strict=True):
        told = await answer(engine, asking(_HEAD + end, max_tokens=12))
        assert told.text == expected.text
        if end != _ENDS[0]:
            assert told.end.cached_tokens > 100


async def test_a_prefix_copied_from_a_stream_that_runs_gives_the_same_text(engine: Engine) -> None:
    expected = await _cold(engine, _HEAD + _ENDS[1])
    await _forget_all(engine)
    stream = steps(engine, asking(_HEAD + _ENDS[0], max_tokens=200, ignore_eos=True))
    async for events in stream:
        if not isinstance(events[0], Accepted):
            break
    told = await answer(engine, asking(_HEAD + _ENDS[1], max_tokens=12))
    assert engine.stats.running == 1, "the source still runs"
    await stream.aclose()
    assert told.end.cached_tokens > 100
    assert told.text == expected.text
    await until(lambda: engine.stats.running == 0)


async def test_requests_that_share_a_head_and_come_together_compute_it_once(engine: Engine) -> None:
    await _forget_all(engine)
    requests = [asking(_HEAD + f"\nNumber {n} says", max_tokens=6) for n in range(8)]
    told = await asyncio.gather(*(answer(engine, request) for request in requests))
    computed = [one.end.prompt_tokens - one.end.cached_tokens for one in told]
    assert sorted(computed)[-2] < 20, "all but one compute only what is their own"


async def test_a_chat_with_title_requests_between_computes_only_what_is_new(engine: Engine) -> None:
    await _forget_all(engine)
    history = ["Tell me about the sea."]
    for question in ("And the tides?", "Who studies them?", "Thank you."):
        told = await answer(engine, asking(chat(*history), max_tokens=24))
        so_far = told.end.prompt_tokens
        await answer(engine, asking(chat(f"Write a title of three words: {history[0]}"), max_tokens=5))
        history += [told.text, question]
        again = await answer(engine, asking(chat(*history), max_tokens=1))
        assert again.end.cached_tokens >= so_far
        assert again.end.prompt_tokens > so_far


async def test_answers_are_the_same_alone_and_in_company(engine: Engine) -> None:
    """True where both read their prompt in the same chunks; here both have all but its last token in the cache.

    Company by itself changes no bit of the logits, as native/test_context.py shows.
    """
    requests = [asking(f"{word} is known for", max_tokens=12, ignore_eos=True) for word in _CITIES]
    await asyncio.gather(*(answer(engine, request) for request in requests))
    alone = [(await answer(engine, request)) for request in requests]
    company = await asyncio.gather(*(answer(engine, request) for request in requests))
    assert [one.text for one in company] == [one.text for one in alone]
    assert len({one.text for one in alone}) == len(_CITIES)


async def test_choices_of_one_greedy_request_are_equal(engine: Engine) -> None:
    told = await answers(engine, asking(n=4, max_tokens=16, ignore_eos=True))
    assert len({one.text for one in told[1:]}) == 1
