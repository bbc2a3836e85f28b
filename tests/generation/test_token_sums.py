"""Every generated token is told once, whatever stages read the answer and however it was cut into pieces."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import ToolFormatChoice
from engine.events import Event as EngineEvent
from engine.events import Piece
from engine.prompt import ChatMessage, ChatPrompt
from generation.answer_reader import AnswerReader
from generation.events import Event, Finished, Started
from generation.request import GenerationRequest, ToolUse
from tests.fakes.engine import end, piece
from tests.fakes.facts import facts
from tests.generation.tools.written import NAMES, TOOLS, WRITTEN

_PROMPTS = (ChatPrompt((ChatMessage(role="user", content="Hi"),)),)
_PARTS = ("<think>", "</think>", "<thi", "<tool_call>", "\n", " ", "", "a", "<|channel|>", "<|message|>")


def _reader(name: ToolFormatChoice, *, has_tools: bool, reasons: bool) -> AnswerReader:
    reasoning = ("harmony" if name == "harmony" else "think") if reasons else "none"
    known = msgspec.structs.replace(facts(), tool_format=name, reasoning_format=reasoning)
    use = ToolUse(tools=TOOLS, is_required=False, is_parallel=True, is_legacy=False) if has_tools else None
    return AnswerReader(GenerationRequest(model="m", prompts=_PROMPTS, tools=use), known)


def _told(events: list[Event]) -> int:
    tokens = 0
    for event in events:
        if isinstance(event, Finished):
            tokens += event.untold_tokens
        elif not isinstance(event, Started):
            tokens += event.tokens
    return tokens


@st.composite
def _pieces(draw: st.DrawFn, name: ToolFormatChoice) -> list[Piece]:
    """An answer in pieces of one token or of several, as drafts that came true bring them."""
    before = draw(st.lists(st.sampled_from(_PARTS), max_size=6))
    whole = "".join(before) + WRITTEN[name]
    whole = whole[: draw(st.integers(0, len(whole)))]
    pieces: list[Piece] = []
    while whole:
        lengths = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)))
        text, whole = whole[: sum(lengths)], whole[sum(lengths) :]
        if len(text) == sum(lengths) and len(lengths) > 1:
            pieces.append(piece(text, tokens=len(lengths), lengths=lengths))
        else:
            pieces.append(piece(text, tokens=draw(st.integers(0, 3))))
    return pieces


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(data=st.data(), has_tools=st.booleans(), reasons=st.booleans())
def test_the_tokens_told_are_those_of_the_pieces(
    name: ToolFormatChoice, data: st.DataObject, has_tools: bool, reasons: bool
) -> None:
    steps: list[EngineEvent] = [*data.draw(_pieces(name)), msgspec.structs.replace(end(), tokens=1)]
    reader = _reader(name, has_tools=has_tools, reasons=reasons)
    told = [event for step in steps for event in reader.read(step)]
    assert _told(told) == sum(step.tokens for step in steps if isinstance(step, Piece))


@pytest.mark.parametrize("name", NAMES)
def test_the_tokens_of_a_call_are_told_while_it_comes(name: ToolFormatChoice) -> None:
    """A request that breaks off is charged for what it was told, so they must not wait for the end."""
    reader = _reader(name, has_tools=True, reasons=name == "harmony")
    cut = WRITTEN[name].index("ln") + 2
    told = [event for character in WRITTEN[name][:cut] for event in reader.read(piece(character))]
    # Only an end that may yet turn out to be markup or half an escape is held back.
    assert cut - 2 <= _told(told) <= cut


def test_each_choice_has_its_own_tokens() -> None:
    reader = _reader("hermes", has_tools=True, reasons=False)
    assert reader.read(piece("<tool", tokens=3)) == []
    (other,) = reader.read(piece("Hi", choice=1, tokens=2))
    (own,) = reader.read(piece(" shed", tokens=1))
    assert (_told([other]), _told([own])) == (2, 4)
