from __future__ import annotations

import pytest
from hypothesis import given

from generation.reasoning.harmony import MARKERS, HarmonyReader
from tests.generation.reasoning.pieces import cuts, read

_OPENING = "<|end|><|start|>assistant"


def _reader(opening: str = _OPENING, *, keeps_calls: bool = False) -> HarmonyReader:
    return HarmonyReader(0, opening=opening, keeps_calls=keeps_calls)


_THOUGHT = ["<|channel|>", "analysis", "<|message|>", "Hm", ".", "<|end|>"]
_FINAL = ["<|start|>", "assistant", "<|channel|>", "final", "<|message|>", "Hi", "!"]
_CALL = ["<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>", '{"a":1}']


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([*_THOUGHT, *_FINAL], ("Hm.", "Hi!", 6, 7)),
        (["<|channel|>final<|message|>", "Hi"], ("", "Hi", 0, 2)),
        (["<|channel|>analysis<|message|>", "Hm", "<|e"], ("Hm<|e", "", 3, 0)),
        ([*_THOUGHT, "<|start|>assist"], ("Hm.", "", 6, 1)),
        ([*_THOUGHT, "<|start|>assistant", *_THOUGHT, *_FINAL], ("Hm.\n\nHm.", "Hi!", 13, 7)),
        # Tools may be announced: that is said to the user.
        (
            ["<|channel|>commentary<|message|>", "Let me see.", "<|end|>", *_FINAL],
            ("", "Let me see.\n\nHi!", 0, 10),
        ),
        ([*_THOUGHT, *_CALL], ("Hm.", '{"a":1}', 6, 2)),
        # Models that do not speak it.
        (["Hi", " there"], ("", "Hi there", 0, 2)),
        (["x" * 600, "<|message|>", "y"], ("", "x" * 600 + "<|message|>y", 0, 3)),
        ([], ("", "", 0, 0)),
    ],
)
def test_what_comes_of_what_is_written(pieces: list[str], expected: tuple[str, str, int, int]) -> None:
    assert read(_reader(), pieces) == expected


def test_calls_are_left_to_the_stage_that_reads_them() -> None:
    reasoning, text, *_ = read(_reader(keeps_calls=True), [*_THOUGHT, *_CALL])
    assert reasoning == "Hm."
    assert text == "".join(_CALL)
    assert read(_reader(keeps_calls=True), [*_CALL, "<|call|>"])[1] == "".join(_CALL) + "<|call|>"


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        ("<|start|>assistant<|channel|>final<|message|>Once", ("", " upon", 0, 1)),
        ("<|start|>assistant<|channel|>analysis<|message|>Hm", (" upon", "", 1, 0)),
        ("a time", ("", " upon", 0, 1)),
    ],
)
def test_an_answer_that_goes_on_from_its_beginning(opening: str, expected: tuple[str, str, int, int]) -> None:
    assert read(_reader(opening), [" upon"]) == expected


_PARTS = (*MARKERS, "<|start|>assistant<|channel|>", "analysis", "final", " to=f", "<|", "x" * 300, " ")


@given(cuts(_PARTS))
def test_however_the_text_is_cut_it_is_read_alike(pieces: list[str]) -> None:
    for opening in (_OPENING, "<|message|>"):
        for keeps_calls in (False, True):
            whole = read(_reader(opening, keeps_calls=keeps_calls), ["".join(pieces)])
            cut = read(_reader(opening, keeps_calls=keeps_calls), pieces)
            assert cut[:2] == whole[:2]
            assert cut[2] + cut[3] == len(pieces)
