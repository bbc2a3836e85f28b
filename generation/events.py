"""The canonical stream: what every wire dialect encodes.

``Started`` first; then deltas of any choice in any order; one ``Finished`` per choice. A failure is raised
as an error of the tree in ``engine.errors``, never sent as an event. Each generated token is counted once: with the
delta that it is a part of, or where it made none of its own with the next, or else with the end.
"""

from __future__ import annotations

import operator
from typing import Literal

import msgspec

from engine.token_logprob import TokenLogprob

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class Usage(msgspec.Struct, frozen=True):
    """Token counts that add up: the usage of a request is the sum over its choices."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    accepted_prediction_tokens: int = 0
    """Tokens of the client's prediction that came true, and so were computed several at a time."""
    rejected_prediction_tokens: int = 0
    reasoning_tokens: int = 0
    """How many of ``completion_tokens`` were spent on reasoning."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))


class Timings(msgspec.Struct, frozen=True):
    """Seconds that a choice spent in each phase, and what made it faster than token by token."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    forced_tokens: int = 0


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The request is in the queue: from here on an answer can be streamed."""

    prompt_tokens: int


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    choice: int
    text: str
    tokens: int = 1
    """How many generated tokens the text stands for."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Those tokens, where the request asked for log-probabilities. They may come with an empty text."""


class ReasoningDelta(msgspec.Struct, frozen=True, tag="reasoning"):
    """What the model thinks before it answers: never a part of the answer's text."""

    choice: int
    text: str
    tokens: int = 1


class ToolCallStarted(msgspec.Struct, frozen=True, tag="call"):
    """The model began to call a tool."""

    choice: int
    index: int
    """Of the call in its choice, from 0."""
    id: str | None
    """None where the request used the older ``functions``, whose calls have none."""
    name: str
    tokens: int = 1
    """How many tokens went before it that no text stands for: the notation of the call, and its name."""


class ToolCallDelta(msgspec.Struct, frozen=True, tag="arguments"):
    """The next part of the JSON text of a call's arguments."""

    choice: int
    index: int
    text: str
    tokens: int = 1


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    choice: int
    reason: FinishReason
    usage: Usage
    timings: Timings = Timings()
    has_logprobs: bool = False
    """Whether the request asked for log-probabilities: also an answer without a token then has a list of them."""
    mean_logprob: float | None = None
    """Mean log-probability of the generated tokens, where answers are ranked by it."""
    untold_tokens: int = 0
    """Generated tokens that no delta was told with: those behind the last of them, as the end of a call's notation."""


TextualDelta = TextDelta | ReasoningDelta
Delta = TextualDelta | ToolCallStarted | ToolCallDelta
Event = Started | Delta | Finished
