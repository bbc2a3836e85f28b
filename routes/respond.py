"""Answering: the one place where a stream and a whole answer part ways.

The work of a request (lease, engine, encoding) runs in a task of its own (``routes.work``), which is cancelled
whoever ends it early. Cancelling it frees the engine's place. What the engine brings passes through no task: it is
noted, encoded and written in the turn of the loop that brought it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from engine.errors import NibbleError
from generation.events import Event, ReasoningDelta, TextDelta, ToolCallStarted
from generation.fold import Fold
from generation.generate import generate
from generation.request import GenerationRequest
from routes.adapter_choice import chosen_adapters
from routes.allowed_models import models_for
from routes.dialect import Dialect, Encoder
from routes.effective import effective_headers
from routes.envelope import Envelope, new_envelope
from routes.event_stream import EventStream
from routes.opened_request import OpenedRequest, open_request
from routes.outbox import Outbox
from routes.priority import priority_of
from routes.services import LeasePort, Services
from routes.wire_body import WireBody
from routes.work import Work, outlast

BodyT = TypeVar("BodyT", bound=WireBody)

_TEXT: Final = (TextDelta, ReasoningDelta, ToolCallStarted)
CLIENT_CLOSED_REQUEST = 499
"""nginx's; nobody reads it but the access log."""


async def respond(request: Request, services: Services, dialect: Dialect[BodyT]) -> Response:
    """The answer to ``request``; a stream begins once the engine has accepted it. Raises no NibbleError."""
    try:
        return await _answer(request, services, dialect)
    except NibbleError as error:
        return dialect.render_failure(error)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer(request: Request, services: Services, dialect: Dialect[BodyT]) -> Response:
    opened = await open_request(request, services, dialect)
    try:
        priority = priority_of(opened.account.caller, opened.asked.priority)
        models = models_for(opened.account.caller, services.registry)
        adapters = chosen_adapters(opened.body.lora, opened.card, models)
        asked = msgspec.structs.replace(opened.asked, adapters=adapters)
        opened.headers.update(effective_headers(request, opened.body, asked))
        asked = msgspec.structs.replace(asked, priority=priority)
    except NibbleError as error:
        opened.observation.failed(error)
        opened.account.close(opened.card.id, is_whole=False)
        raise
    work = _Generating(services, dialect, opened, asked)
    return _stream(work) if opened.body.stream else await _whole(request, work)


class _Generating(Generic[BodyT]):
    """A request for text, and the work that answers it."""

    def __init__(
        self,
        services: Services,
        dialect: Dialect[BodyT],
        opened: OpenedRequest[BodyT, GenerationRequest],
        asked: GenerationRequest,
    ) -> None:
        """``asked`` is what was opened, with what the model brings to it."""
        self.dialect = dialect
        self.body = opened.body
        self.headers = opened.headers
        self.policy = services.policy
        self._choices = asked.choices
        self._request = msgspec.structs.replace(asked, tenant=opened.account.caller.name)
        self._observation = opened.observation
        self._wants_content = opened.observation.wants_content
        self._has_begun = False
        self._account = opened.account
        self._work = Work(
            services,
            opened.card.id,
            opened.request_id,
            opened.observation,
            opened.account,
            opened.patience,
            tuple(use.name for use in asked.adapters),
        )

    async def run(self, answer: _Answer) -> None:
        """Hold the model while it generates ``answer``. Raises errors of the tree alone."""

        async def act(lease: LeasePort) -> None:
            asked = msgspec.structs.replace(self._request, queue_timeout_s=self._work.patience.left_s)
            prefix, with_timings = self.dialect.id_prefix, bool(self.body.timings)
            answer.begin(new_envelope(prefix, lease.card, with_timings=with_timings))
            await generate(lease.engine, asked, answer.take)
            answer.end()

        await self._work.run(act)

    def note(self, events: list[Event]) -> bool:
        """Look at what is about to go to the client. Whether every choice has come to its end with it."""
        account = self._account
        for event in events:
            account.note(event)
        if not self._has_begun and any(isinstance(event, _TEXT) for event in events):
            self._has_begun = True
            self._observation.first_text()
        if self._wants_content:
            self._observation.told(events)
        return len(account.ends) == self._choices


class _Answer(Protocol):
    """What is made of a generation: a stream, or a whole."""

    def begin(self, envelope: Envelope) -> None:
        """Take in what all of it has in common."""
        ...

    def take(self, events: list[Event]) -> None:
        """Take in what one step brought."""
        ...

    def end(self) -> None:
        """Make what is left to be made: all has come."""
        ...


class _WholeAnswer:
    """One document."""

    def __init__(self, work: _Generating[Any]) -> None:
        self.rendered = b""
        self._work = work
        self._fold = Fold()
        self._render: Callable[[], bytes]

    def begin(self, envelope: Envelope) -> None:
        self._render = lambda: self._work.dialect.render(self._fold.result(), envelope)

    def take(self, events: list[Event]) -> None:
        self._work.note(events)
        self._fold.add(events)

    def end(self) -> None:
        self.rendered = self._render()


class _StreamedAnswer:
    """Chunks, put into ``outbox`` but for the ``last``."""

    def __init__(self, work: _Generating[Any], outbox: Outbox) -> None:
        self.last = b""
        self._work = work
        self._outbox = outbox
        self._encoder: Encoder

    def begin(self, envelope: Envelope) -> None:
        self._encoder = self._work.dialect.encoder(self._work.body, envelope)

    def take(self, events: list[Event]) -> None:
        is_answered = self._work.note(events)
        blob = self._encoder.encode(events)
        if is_answered:
            self.last = blob
        else:
            # The headers go with the engine's word, so that a request it refuses gets a true status.
            self._outbox.put(blob)

    def end(self) -> None:
        self.last += self._encoder.end()


async def _whole(request: Request, work: _Generating[BodyT]) -> Response:
    answer = _WholeAnswer(work)
    await outlast(request, work.run(answer))
    return Response(answer.rendered, media_type="application/json", headers=work.headers)


def _stream(work: _Generating[BodyT]) -> Response:
    async def fill(outbox: Outbox) -> None:
        answer = _StreamedAnswer(work, outbox)
        try:
            await work.run(answer)
        except NibbleError as error:
            if not outbox.is_open:
                raise
            answer.last += work.dialect.encode_failure(error)
        # Only now, so that whoever has read it finds the request in the figures, and its place free.
        outbox.end(answer.last)

    return EventStream(fill, work.policy, work.headers, work.dialect.render_failure)
