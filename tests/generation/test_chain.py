from __future__ import annotations

from generation.chain import Chain
from generation.events import Delta, ReasoningDelta, TextDelta


class Thinker:
    """What stands before the first ``|`` is reasoning; holds the newest piece back."""

    def __init__(self) -> None:
        self.held = ""

    def add(self, delta: TextDelta) -> list[Delta]:
        given, self.held = self.held, delta.text
        thought, bar, text = given.partition("|")
        return [ReasoningDelta(0, thought, 0), TextDelta(0, text, 1)] if bar else [TextDelta(0, given, 1)]

    def end(self) -> list[Delta]:
        return [TextDelta(0, self.held, 1)]


class Shouter:
    """Makes all text upper case, and ends with an exclamation mark."""

    def add(self, delta: TextDelta) -> list[Delta]:
        return [TextDelta(delta.choice, delta.text.upper(), delta.tokens)]

    def end(self) -> list[Delta]:
        return [TextDelta(0, "!", 0)]


def _texts(deltas: list[Delta]) -> list[tuple[str, str]]:
    return [
        (type(delta).__name__[0], delta.text)
        for delta in deltas
        if isinstance(delta, (TextDelta, ReasoningDelta)) and delta.text
    ]


def test_each_stage_reads_what_the_one_before_it_left_as_text() -> None:
    chain = Chain([Thinker(), Shouter()])
    assert _texts(chain.add(TextDelta(0, "hm|a"))) == []
    assert _texts(chain.add(TextDelta(0, "b"))) == [("R", "hm"), ("T", "A")]
    assert _texts(chain.end()) == [("T", "B"), ("T", "!")]


def test_a_chain_of_no_stages_passes_everything() -> None:
    assert Chain([]).is_empty
    assert Chain([]).add(TextDelta(0, "a")) == [TextDelta(0, "a")]
    assert Chain([]).end() == []
