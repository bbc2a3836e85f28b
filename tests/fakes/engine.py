"""An engine that says what a test tells it to, one engine step at a time, and notes how it was left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from engine.embedding import EmbeddingInput, EmbeddingRequest, Embeddings, PairPrompt
from engine.errors import NibbleError
from engine.event_stream import Take
from engine.events import Accepted, Event, Finish, FinishReason, Piece
from engine.front_desk import FrontDesk
from engine.prompt import ChatPrompt, TextPrompt, TokenPrompt
from engine.question import Answer, Question
from engine.request import EngineRequest
from engine.token_logprob import TokenLogprob
from tests.fakes.facts import facts
from tests.fakes.vocabulary import ByteVocabulary

Step = list[Event]


def piece(
    text: str,
    choice: int = 0,
    tokens: int = 1,
    logprobs: tuple[TokenLogprob, ...] | None = None,
    lengths: tuple[int, ...] = (),
) -> Piece:
    return Piece(1, choice, text, tokens, None, logprobs, lengths)


def end(
    choice: int = 0,
    reason: FinishReason = "stop",
    *,
    text: str = "",
    prompt: int = 0,
    cached: int = 0,
    completion: int = 0,
    logprobs: tuple[TokenLogprob, ...] | None = None,
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
    return Piece(1, choice, text, 1 if text else 0, finish, logprobs)


def answer(*texts: str, prompt: int = 3, reason: FinishReason = "stop", opening: str = "") -> list[Step]:
    """The steps of one choice: accepted, each text in a step of its own, the end."""
    steps: list[Step] = [[Accepted(1, prompt, opening)]]
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
        self.facts = facts()
        self.script: Script = script or answer("Hello", " world")
        self.requests: list[EngineRequest] = []
        self.embedded: list[EmbeddingRequest] = []
        self.desk = FrontDesk(ByteVocabulary(), _Template(), "a template")
        self.started = 0
        self.closed = 0
        self.completed = 0
        self.all_closed = asyncio.Event()
        self.is_ready = True

    async def generate(self, request: EngineRequest, take: Take) -> None:
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
                        take(list(item))
                        # Steps of an engine come apart.
                        await asyncio.sleep(0)
            self.completed += 1
        finally:
            self.closed += 1
            if self.closed == self.started:
                self.all_closed.set()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """A vector of three numbers for each input, and a score for each pair: how many letters they share."""
        self.embedded.append(request)
        for item in self.script:
            if isinstance(item, Gate):
                await item.pass_through()
            elif isinstance(item, BaseException):
                raise item
        rows = tuple(np.array(_vector(item), dtype="<f4").tobytes() for item in request.inputs)
        return Embeddings(rows, prompt_tokens=2 * len(rows))

    async def ask(self, question: Question) -> Answer:
        return self.desk.answer(question)


class EndingEngine(FakeEngine):
    """Ends every choice at once, however many there are."""

    async def generate(self, request: EngineRequest, take: Take) -> None:
        take([Accepted(1, 1)])
        # With what a ranking goes by, should one be asked for.
        finish = Finish("stop", 1, 0, 1, 0.0, 0.0, 0.0, mean_logprob=-1.0)
        take([Piece(1, choice, "", 0, finish) for choice in range(request.n * len(request.prompts))])


def _vector(item: EmbeddingInput) -> list[float]:
    match item:
        case PairPrompt(query=query, text=text):
            return [len(set(query) & set(text)) / 16]
        case TextPrompt(text=text):
            return [len(text), 0.1, -1e-9]
        case TokenPrompt(tokens=tokens):
            return [len(tokens), *tokens[:1], 0.5]


class _Template:
    def render(self, prompt: ChatPrompt) -> str:
        return "".join(f"<{message.role}>{message.content}" for message in prompt.messages)


def failing(error: NibbleError, *before: Step | Gate) -> Script:
    return [*before, error]
