"""One request as the server holds it while a worker is at it. Owned by the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum

from engine.adapter import Adapter
from engine.embedding import EmbeddingRequest
from engine.errors import NibbleError
from engine.event_stream import EventStream
from engine.events import Accepted
from engine.gathering import AdapterGathering, AnswerGathering, VectorGathering
from engine.question import Question
from engine.request import EngineRequest

Body = EngineRequest | EmbeddingRequest | Question | Adapter
Reader = EventStream | VectorGathering | AnswerGathering | AdapterGathering


class Standing(IntEnum):
    """How far the worker has come with a request."""

    SENT = 0
    READ = 1
    """Found in order, and waiting for its turn."""
    BEGUN = 2


@dataclass(slots=True)
class Exchange:
    """What was asked, who reads what comes of it, and how far that is."""

    body: Body
    reader: Reader
    standing: Standing = Standing.SENT
    patience: asyncio.TimerHandle | None = None
    """Ends the request unless it is begun with before."""
    _accepted: Accepted | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether the worker may still be at it."""
        if isinstance(self.reader, EventStream):
            return self.reader.choices_left > 0
        return not self.reader.is_over

    @property
    def is_compiled(self) -> bool:
        """Whether the worker reads it on the side track for requests with a constraint."""
        return isinstance(self.body, EngineRequest) and self.body.constraint is not None

    def accept(self, accepted: Accepted) -> None:
        """Take in that the worker will answer. Who may still be refused for its waiting is told when that is over:
        a stream that has begun could not say so with its status any more."""
        self.standing = Standing.READ
        if self.patience is not None:
            self._accepted = accepted
        else:
            self._tell(accepted)

    def begin(self) -> None:
        self.standing = Standing.BEGUN
        self.end_patience()
        if self._accepted is not None:
            self._tell(self._accepted)
            self._accepted = None

    def _tell(self, accepted: Accepted) -> None:
        if isinstance(self.reader, EventStream):
            if self.reader.push(accepted):
                self.reader.tell()
        elif isinstance(self.reader, VectorGathering):
            self.reader.accept(accepted.prompt_tokens)

    def fail(self, error: NibbleError) -> None:
        self.reader.fail(error)

    def end_patience(self) -> None:
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None
