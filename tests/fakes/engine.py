"""An engine that says what a test tells it to, one engine step at a time, and notes how it was left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from engine.errors import NibbleError
from engine.events import Accepted, Event, Finish, FinishReason, Piece
from engine.request import EngineRequest

Step = list[Event]


def piece(text: str, choice: int = 0, tokens: int = 1) -> Piece:
    return Piece(1, choice, text, tokens)


def end(
    choice: int = 0,
    reason: FinishReason = "stop",
    *,
    text: str = "",
    prompt: int = 0,
    cached: int = 0,
    completion: int = 0,
) -> Piece:
    finish = Finish(
        reason=reason,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        queue_s=0.25,
        prefill_s=0.5,
        decode_s=1.0,
    )
    return Piece(1, choice, text, 1 if text else 0, finish)


def answer(*texts: str, prompt: int = 3, reason: FinishReason = "stop") -> list[Step]:
    """The steps of one choice: accepted, each text in a step of its own, the end."""
    steps: list[Step] = [[Accepted(1, prompt)]]
    steps += [[piece(text)] for text in texts]
    return [*steps, [end(reason=reason, prompt=prompt, completion=len(texts) + 1)]]


class Gate:
    """A place where the engine stops until a test lets it pass; ``reached`` tells that it got there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.open.wait()


Script = Sequence[Step | Gate | BaseException]


class FakeEngine:
    """Plays ``script`` for each request. Owned by the event loop of the test."""

    def __init__(self, script: Script = ()) -> None:
        self.script: Script = script or answer("Hello", " world")
        self.requests: list[EngineRequest] = []
        self.started = 0
        self.closed = 0
        self.completed = 0
        self.all_closed = asyncio.Event()
        self.is_ready = True

    async def generate(self, request: EngineRequest) -> AsyncGenerator[list[Event], None]:
        self.requests.append(request)
        self.started += 1
        self.all_closed.clear()
        try:
            for item in self.script:
                match item:
                    case Gate():
                        await item.pass_through()
                    case BaseException():
                        raise item
                    case _:
                        yield list(item)
            self.completed += 1
        finally:
            self.closed += 1
            if self.closed == self.started:
                self.all_closed.set()


def failing(error: NibbleError, *before: Step | Gate) -> Script:
    return [*before, error]
