from __future__ import annotations

from contextlib import aclosing

import pytest

from engine.errors import InternalError, QueueFull
from engine.events import Accepted
from engine.prompt import TextPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from generation.events import Event, Finished, Started, TextDelta, Timings, Usage
from generation.generate import generate
from generation.request import GenerationRequest
from tests.fakes.engine import FakeEngine, Script, answer, end, piece


def request(*, prompts: int = 1, n: int = 1) -> GenerationRequest:
    return GenerationRequest(model="m", prompts=(TextPrompt("x"),) * prompts, n=n)


async def run(engine: FakeEngine, asked: GenerationRequest) -> list[list[Event]]:
    async with aclosing(generate(engine, asked)) as steps:
        return [events async for events in steps]


async def test_engine_events_become_canonical_ones_step_by_step() -> None:
    engine = FakeEngine(
        [
            [Accepted(1, 7)],
            [piece("a", tokens=2)],
            [piece("")],
            [end(text="b", reason="length", prompt=7, cached=6, completion=4)],
        ]
    )
    assert await run(engine, request()) == [
        [Started(7)],
        [TextDelta(0, "a", 2)],
        # A step that brought no text is no step: nothing would be sent for it.
        [TextDelta(0, "b", 1), Finished(0, "length", Usage(7, 6, 4), Timings(0.25, 0.5, 1.0))],
    ]


async def test_the_engine_is_asked_for_what_was_asked() -> None:
    engine = FakeEngine()
    asked = GenerationRequest(
        model="m",
        prompts=(TextPrompt("x"),),
        max_tokens=5,
        min_tokens=2,
        ignore_eos=True,
        stop=("\n",),
        sampling=SamplingParams(temperature=0.0),
        request_id="r",
    )
    await run(engine, asked)
    assert engine.requests == [
        EngineRequest(
            prompts=(TextPrompt("x"),),
            max_tokens=5,
            min_tokens=2,
            ignore_eos=True,
            stop=("\n",),
            sampling=SamplingParams(temperature=0.0),
            request_id="r",
        )
    ]


async def test_closing_it_closes_the_engine_s_generator() -> None:
    engine = FakeEngine(answer("a", "b", "c"))
    steps = generate(engine, request())
    await anext(steps)
    await steps.aclose()
    assert (engine.closed, engine.completed) == (1, 0)


async def test_an_error_of_the_engine_passes() -> None:
    engine = FakeEngine([QueueFull("full")])
    with pytest.raises(QueueFull):
        await run(engine, request())
    assert engine.closed == 1


@pytest.mark.parametrize(
    ("script", "choices"),
    [
        ([[Accepted(1, 1)], [piece("a")]], 1),
        ([[Accepted(1, 1)], [end(0)]], 2),
        ([[Accepted(1, 1)], [end(0)], [end(0)]], 1),
        ([[Accepted(1, 1)], [end(1)]], 1),
    ],
    ids=["no end", "one end of two", "two ends of one", "the end of no choice"],
)
async def test_each_choice_ends_once(script: Script, choices: int) -> None:
    with pytest.raises(InternalError):
        await run(FakeEngine(script), request(n=choices))


def test_choices_are_counted_over_all_prompts() -> None:
    assert request(prompts=3, n=4).choices == 12
