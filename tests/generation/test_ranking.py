from __future__ import annotations

import msgspec

from engine.events import Accepted, Piece
from engine.prompt import TextPrompt
from generation.events import Event, Finished, Started, TextDelta, Usage
from generation.fold import Fold
from generation.generate import generate
from generation.request import GenerationRequest
from tests.fakes.engine import FakeEngine, Script, end, piece


def asking(*, prompts: int = 1, n: int, best_of: int | None) -> GenerationRequest:
    return GenerationRequest(model="m", prompts=(TextPrompt("x"),) * prompts, n=n, best_of=best_of)


def ended(choice: int, mean: float, *, text: str = "", prompt: int = 0, completion: int = 1) -> Piece:
    last = end(choice, text=text, prompt=prompt, completion=completion)
    assert last.finish is not None
    return msgspec.structs.replace(last, finish=msgspec.structs.replace(last.finish, mean_logprob=mean))


TWO_PROMPTS: Script = [
    [Accepted(1, 9)],
    [piece("a", 0), piece("b", 1), piece("d", 3)],
    [ended(1, -1.0, completion=2), ended(5, -0.5, text="f"), ended(4, -0.5, text="e")],
    [piece("a", 0), ended(2, -2.0, text="c"), ended(3, -0.25, prompt=4)],
    [ended(0, -3.0, prompt=5, completion=3)],
]


async def test_the_likeliest_per_token_are_told_and_all_are_counted() -> None:
    engine = FakeEngine(TWO_PROMPTS)
    steps: list[list[Event]] = []
    await generate(engine, asking(prompts=2, n=2, best_of=3), steps.append)
    assert engine.requests[0].n == 3
    assert engine.requests[0].is_ranked
    # Nothing before the last candidate has ended, for it could have been the best.
    assert steps[0] == [Started(9)]
    assert len(steps) == 2
    texts = [(event.choice, event.text) for event in steps[1] if isinstance(event, TextDelta)]
    # Of two that are equally likely, the first.
    assert texts == [(0, "b"), (1, "c"), (2, "d"), (3, "e")]
    ends = [event for event in steps[1] if isinstance(event, Finished)]
    assert [(event.choice, event.usage) for event in ends] == [
        (0, Usage(5, 0, 5)),
        (1, Usage(0, 0, 1)),
        (2, Usage(4, 0, 2)),
        (3, Usage(0, 0, 1)),
    ]


async def test_the_whole_answer_is_the_fold_of_the_best() -> None:
    fold = Fold()
    await generate(FakeEngine(TWO_PROMPTS), asking(prompts=2, n=1, best_of=3), fold.add)
    whole = fold.result()
    assert [(choice.index, choice.text) for choice in whole.choices] == [(0, "b"), (1, "d")]
    assert whole.usage == Usage(9, 0, 9)


async def test_as_many_as_are_told_are_not_ranked() -> None:
    engine = FakeEngine([[Accepted(1, 1)], [piece("a", 1)], [end(1), end(0)]])
    steps: list[list[Event]] = []
    await generate(engine, asking(n=2, best_of=2), steps.append)
    assert not engine.requests[0].is_ranked
    assert steps[1] == [TextDelta(1, "a", 1)]
