"""Requests as the worker's receiving thread takes them: read, admitted or refused, handed to the engine thread.

One class for models that generate text, one for models that make vectors; questions about the model go to its desk
in either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from engine import frames
from engine.adapter_desk import AdapterDesk
from engine.compiling_intake import CompilingIntake
from engine.embedding_core import EmbeddingJob
from engine.embedding_intake import EmbeddingIntake
from engine.errors import ErrorRecord, InternalError, ModelLoadFailed, NibbleError
from engine.events import Accepted
from engine.front_desk import FrontDesk
from engine.intake import Intake
from engine.sequence import Sequence

_logger = logging.getLogger("nibble.worker")

Send = Callable[[frames.FromWorker], None]


class Reception:
    """What both kinds have in common. Used by the receiving thread alone, but for what ``CompilingIntake`` reads."""

    def __init__(self, desk: FrontDesk, send: Send) -> None:
        self._desk = desk
        self._send = send

    def take(self, frame: frames.ToWorker) -> None:
        """Serve one frame. A request that cannot be served is refused, and raises nothing."""
        match frame:
            case frames.Submit():
                self.submit(frame)
            case frames.Embed():
                self.embed(frame)
            case frames.Ask(request=number, question=question):
                self.attempt(number, lambda: self._send(frames.Answered(number, self._desk.answer(question))))
            case frames.LoadAdapter() | frames.DropAdapter():
                self.attempt(frame.request, partial(self.adapt, frame))
            case frames.Cancel(request=number):
                self.cancel(number)
            case frames.Configure():
                raise InternalError("a worker is configured once")

    def submit(self, frame: frames.Submit) -> None:
        self.attempt(frame.request, partial(_misled, "text is asked of a model that makes vectors"))

    def embed(self, frame: frames.Embed) -> None:
        self.attempt(frame.request, partial(_misled, "vectors are asked of a model that generates text"))

    def adapt(self, frame: frames.LoadAdapter | frames.DropAdapter) -> None:
        """Raises ModelLoadFailed."""
        raise ModelLoadFailed(
            "adapters are served with models that generate text, and this one makes vectors"
        )

    def cancel(self, number: int) -> None:
        raise NotImplementedError

    def attempt(self, number: int, act: Callable[[], None]) -> bool:
        """Do ``act``; if it fails, refuse the request. Whether it succeeded."""
        try:
            act()
        except NibbleError as error:
            self._refuse(number, error)
        except Exception as error:
            _logger.exception("request %d could not be read", number)
            self._refuse(number, InternalError(f"the request could not be read: {type(error).__name__}"))
        else:
            return True
        return False

    def admit(self, number: int, prompt_tokens: int, opening: str = "") -> None:
        self._send(frames.Admitted(Accepted(number, prompt_tokens, opening)))

    def _refuse(self, number: int, error: NibbleError) -> None:
        self._send(frames.Refused(frames.Failure(number, ErrorRecord.of(error))))


class TextReception(Reception):
    """Requests for text. One with a constraint takes a side track, since compiling it may take a second."""

    def __init__(
        self,
        desk: FrontDesk,
        send: Send,
        make_intake: Callable[[], Intake],
        adapters: AdapterDesk,
        order: Callable[[list[Sequence] | int], None],
    ) -> None:
        super().__init__(desk, send)
        self._order = order
        self._adapters = adapters
        # One each for the two threads that read requests.
        self._compiling = CompilingIntake(partial(self._read, make_intake()))
        self._intake = make_intake()

    def submit(self, frame: frames.Submit) -> None:
        if frame.body.constraint is not None:
            self._compiling.take(frame)
        elif (hand_over := self._read(self._intake, frame)) is not None:
            hand_over()

    def adapt(self, frame: frames.LoadAdapter | frames.DropAdapter) -> None:
        match frame:
            case frames.LoadAdapter(adapter=adapter):
                self._adapters.load(adapter)
            case frames.DropAdapter(name=name):
                self._adapters.drop(name)
        self._send(frames.Adapted(frame.request))

    def cancel(self, number: int) -> None:
        self._compiling.withdraw(number)
        self._order(number)

    def _read(self, intake: Intake, frame: frames.Submit) -> Callable[[], None] | None:
        """Prepare a request and tell that it is admitted, or refuse it. Returns what gives it to the engine thread."""
        read: list[Sequence] = []

        def prepare() -> None:
            read.extend(intake.sequences(frame.request, frame.body))

        if not self.attempt(frame.request, prepare):
            return None
        prompt_tokens = sum(s.prompt_length for s in read if s.is_first_choice)
        self.admit(frame.request, prompt_tokens, read[0].opening)
        return partial(self._order, read)


class VectorReception(Reception):
    """Requests for vectors or scores."""

    def __init__(
        self,
        desk: FrontDesk,
        send: Send,
        intake: EmbeddingIntake,
        order: Callable[[EmbeddingJob | int], None],
    ) -> None:
        super().__init__(desk, send)
        self._order = order
        self._intake = intake

    def embed(self, frame: frames.Embed) -> None:
        self.attempt(frame.request, partial(self._read, frame))

    def cancel(self, number: int) -> None:
        self._order(number)

    def _read(self, frame: frames.Embed) -> None:
        job = self._intake.read(frame.request, frame.body)
        self.admit(frame.request, sum(len(tokens) for tokens in job.inputs))
        self._order(job)


def _misled(why: str) -> NoReturn:
    raise InternalError(f"{why}: the server asks only for what the model can")
