from __future__ import annotations

import pytest

from engine.errors import InternalError
from generation.events import Event, Finished, ReasoningDelta, Started, TextDelta, Timings, Usage
from generation.fold import Choice, Fold


def test_choices_come_in_the_order_of_their_index_and_usage_adds_up() -> None:
    fold = Fold()
    fold.add([Started(5), TextDelta(1, "b"), TextDelta(0, "a")])
    fold.add([TextDelta(1, "c"), Finished(1, "length", Usage(0, 0, 2))])
    fold.add([Finished(0, "stop", Usage(5, 4, 1), Timings(1.0, 2.0, 3.0))])
    result = fold.result()
    assert result.choices == (
        Choice(0, "a", "stop", Timings(1.0, 2.0, 3.0)),
        Choice(1, "bc", "length", Timings()),
    )
    assert result.usage == Usage(5, 4, 3)


def test_a_choice_without_text_is_an_empty_answer() -> None:
    fold = Fold()
    fold.add([Finished(0, "stop", Usage(1, 0, 1))])
    assert [choice.text for choice in fold.result().choices] == [""]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [Started(1)],
        [Started(1), TextDelta(0, "half")],
        [TextDelta(0, "a"), TextDelta(1, "half"), Finished(0, "stop", Usage())],
    ],
)
def test_half_an_answer_is_never_a_whole_one(events: list[Event]) -> None:
    fold = Fold()
    fold.add(events)
    with pytest.raises(InternalError):
        fold.result()


def test_reasoning_is_gathered_apart() -> None:
    fold = Fold()
    fold.add(
        [ReasoningDelta(0, "h"), ReasoningDelta(0, "m"), TextDelta(0, "a"), Finished(0, "stop", Usage())]
    )
    assert fold.result().choices == (Choice(0, "a", "stop", Timings(), reasoning="hm"),)
