from __future__ import annotations

import asyncio

import msgspec
import pytest

from engine.constraint.spec import JsonObject, Regex, ToolGrammar
from engine.errors import InternalError, QueueFull, RequestTimeout
from engine.events import Accepted, Echoed
from engine.prompt import ChatMessage, ChatPrompt, TemplateOptions, TextPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from engine.token_logprob import TokenLogprob
from generation.events import Event, Finished, ReasoningDelta, Started, TextDelta, Timings, Usage
from generation.generate import generate
from generation.request import Constraint, GenerationRequest
from tests.fakes.engine import FakeEngine, Gate, Script, answer, end, piece


def request(*, prompts: int = 1, n: int = 1) -> GenerationRequest:
    return GenerationRequest(model="m", prompts=(TextPrompt("x"),) * prompts, n=n)


async def run(engine: FakeEngine, asked: GenerationRequest) -> list[list[Event]]:
    steps: list[list[Event]] = []
    await generate(engine, asked, steps.append)
    return steps


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
        # A step that brought no text is no step, since nothing would be sent for it; its token is told with the next.
        [TextDelta(0, "b", 2), Finished(0, "length", Usage(7, 6, 4), Timings(0.25, 0.5, 1.0))],
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


async def test_cancelling_it_cancels_the_engine_s_work() -> None:
    gate = Gate()
    engine = FakeEngine([*answer("a", "b")[:2], gate])
    running = asyncio.create_task(generate(engine, request(), lambda _: None))
    await gate.reached.wait()
    running.cancel()
    await asyncio.wait({running})
    assert (engine.closed, engine.completed) == (1, 0)


async def test_what_the_taker_raises_ends_it() -> None:
    def fail(_: list[Event]) -> None:
        raise RequestTimeout("nobody reads")

    engine = FakeEngine(answer("a", "b", "c"))
    with pytest.raises(RequestTimeout, match="nobody reads"):
        await generate(engine, request(), fail)
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


_CHAT = GenerationRequest(model="m", prompts=(ChatPrompt((ChatMessage(role="user", content="Hi"),)),))


def thinking(script: Script) -> FakeEngine:
    engine = FakeEngine(script)
    engine.facts = msgspec.structs.replace(engine.facts, reasoning_format="think")
    return engine


async def test_reasoning_is_split_from_the_answer_and_its_tokens_are_counted() -> None:
    engine = thinking(
        [
            [Accepted(1, 7)],
            [piece("<think>")],
            # Several tokens of one step, as drafts that came true bring them.
            [piece("\nHm.\n</think>\n\nA", tokens=6, lengths=(1, 2, 1, 9, 2, 1))],
            [end(text="b", prompt=7, completion=8)],
        ]
    )
    assert await run(engine, _CHAT) == [
        [Started(7)],
        # The tokens of the tags are told with the text behind them.
        [ReasoningDelta(0, "Hm.", 4), TextDelta(0, "A", 3)],
        [
            TextDelta(0, "b", 1),
            Finished(0, "stop", Usage(7, 0, 8, reasoning_tokens=5), Timings(0.25, 0.5, 1.0)),
        ],
    ]
    assert engine.requests[0].shown_controls == ("<think>", "</think>")


async def test_each_choice_thinks_for_itself() -> None:
    script: Script = [
        [Accepted(1, 7, "<think>\n")],
        [piece("a"), piece("b</think>", 1)],
        [piece("c", 1), end(0), end(1)],
    ]
    events = [
        event for step in await run(thinking(script), msgspec.structs.replace(_CHAT, n=2)) for event in step
    ]
    assert events[1:4] == [ReasoningDelta(0, "a", 1), ReasoningDelta(1, "b", 1), TextDelta(1, "c", 1)]
    assert [event.usage.reasoning_tokens for event in events if isinstance(event, Finished)] == [1, 1]


@pytest.mark.parametrize(
    "asked",
    [request(), msgspec.structs.replace(_CHAT, constraint=Constraint(Regex(".*"), "regex"))],
    ids=["a raw prompt", "an expression"],
)
async def test_what_is_no_free_chat_is_left_as_it_is(asked: GenerationRequest) -> None:
    engine = thinking(answer("<think>a</think>b"))
    events = [event for step in await run(engine, asked) for event in step]
    assert events[1] == TextDelta(0, "<think>a</think>b")
    assert engine.requests[0].shown_controls == ()


async def test_an_echo_comes_before_the_text_with_its_tokens() -> None:
    prompt, answer_ = TokenLogprob(b"p", None, 0), TokenLogprob(b"a", -1.0, 1)
    first = msgspec.structs.replace(piece("a", logprobs=(answer_,)), echo=Echoed("p", (prompt,)))
    engine = FakeEngine([[Accepted(1, 1)], [first], [end(text="b", logprobs=())]])
    asked = msgspec.structs.replace(request(), echo=True, logprobs=0)
    events = await run(engine, asked)
    assert events[1] == [TextDelta(0, "pa", 1, (prompt, answer_))]
    assert engine.requests[0].echo
    assert isinstance(events[2][1], Finished)
    assert events[2][1].has_logprobs


async def test_an_echo_without_log_probabilities_is_text() -> None:
    first = msgspec.structs.replace(piece(""), echo=Echoed("p"))
    engine = FakeEngine([[Accepted(1, 1)], [first], [end()]])
    assert (await run(engine, request()))[1] == [TextDelta(0, "p", 1)]


async def test_json_comes_behind_a_thought() -> None:
    asked = msgspec.structs.replace(_CHAT, constraint=Constraint(JsonObject(), "response_format"))
    engine = thinking(answer("<think>a</think>", '{"b": 1}'))
    events = [event for step in await run(engine, asked) for event in step]
    assert events[1:3] == [ReasoningDelta(0, "a", 1), TextDelta(0, '{"b": 1}', 1)]
    spec = engine.requests[0].constraint
    assert isinstance(spec, ToolGrammar)
    assert spec.thought == ("<think>", "</think>")
    assert spec.schemas == (('{"type": "object"}', "response_format"),)
    assert not spec.is_thinking
    assert engine.requests[0].constraint_param == "response_format"


async def test_a_thought_that_the_client_began_is_gone_on_with() -> None:
    begun = ChatPrompt(
        (ChatMessage(role="user", content="x"), ChatMessage(role="assistant", content="<think>\nHm")),
        options=TemplateOptions(continues_last=True),
    )
    asked = msgspec.structs.replace(
        _CHAT, prompts=(begun,), constraint=Constraint(JsonObject(), "response_format")
    )
    engine = thinking(answer(".</think>", "{}"))
    events = [event for step in await run(engine, asked) for event in step]
    assert events[1:3] == [ReasoningDelta(0, ".", 1), TextDelta(0, "{}", 1)]
    spec = engine.requests[0].constraint
    assert isinstance(spec, ToolGrammar)
    assert spec.is_thinking
