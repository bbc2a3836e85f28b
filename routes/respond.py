"""Answering: the one place where a stream and a whole answer part ways, and where a request holds its model.

The work of a request (lease, engine, encoding) runs in a task of its own, so that everything that can end
it early ends it in one way: a client that goes away, streamed or not and in every phase, a time limit, a
server that stops. Cancelling that task closes the engine's generator, which frees the place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from engine.errors import ContextLengthExceeded, InternalError, NibbleError, QueueFull, RequestTimeout
from generation.events import Event, Finished, TextDelta
from generation.fold import collect
from generation.generate import generate
from generation.request import GenerationRequest
from routes.dialect import Dialect
from routes.disconnect import outstays
from routes.envelope import Envelope, new_envelope
from routes.event_stream import EventStream
from routes.json_body import read_json_body
from routes.outbox import Outbox
from routes.services import Services
from routes.telemetry import RequestObservation
from routes.wire_body import WireBody

BodyT = TypeVar("BodyT", bound=WireBody)
Steps = AsyncIterator[list[Event]]

IGNORED_FIELDS_HEADER = "x-nibble-ignored-fields"
UNKNOWN_MODEL = "unknown"
_CLIENT_CLOSED_REQUEST = 499  # nginx's; nobody reads it but the access log

_log = structlog.stdlib.get_logger(__name__)


async def respond(request: Request, services: Services, dialect: Dialect[BodyT]) -> Response:
    """The answer to ``request``; a stream begins once the engine has accepted it. Raises no NibbleError."""
    try:
        return await _answer(request, services, dialect)
    except NibbleError as error:
        return dialect.render_failure(error)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)


async def _answer(request: Request, services: Services, dialect: Dialect[BodyT]) -> Response:
    request_id: str = getattr(request.state, "request_id", "")
    try:
        body = await read_json_body(request, dialect.body, services.policy)
        canonical = dialect.parse(body.value, request_id)
        card = services.registry.card(canonical.model)
    except NibbleError as error:
        services.telemetry.request_started(UNKNOWN_MODEL, dialect.operation).failed(error)
        raise
    headers: dict[str, str] = {}
    if body.ignored:
        names = ", ".join(body.ignored)
        _log.warning("fields were ignored", fields=names, request_id=request_id)
        headers[IGNORED_FIELDS_HEADER] = names.encode("ascii", "backslashreplace").decode()

    observation = services.telemetry.request_started(card.id, dialect.operation)
    work = _Work(services, dialect, body.value, canonical, observation)
    if body.value.stream:
        return await _stream(request, work, headers)
    return await _whole(request, work, headers)


class _Work(Generic[BodyT]):
    """What one request asks of a model. ``run`` is the life of its task."""

    def __init__(
        self,
        services: Services,
        dialect: Dialect[BodyT],
        body: BodyT,
        canonical: GenerationRequest,
        observation: RequestObservation,
    ) -> None:
        self.services = services
        self.dialect = dialect
        self.body = body
        self._canonical = canonical
        self._observation = observation
        self._finished: list[Finished] = []

    async def run(self, consume: Callable[[Steps, Envelope], Awaitable[None]]) -> None:
        """Hold the model while ``consume`` reads what it generates. Raises errors of the tree alone."""
        try:
            await self._run(consume)
        except asyncio.CancelledError:
            self._observation.aborted()
            raise
        except NibbleError as error:
            self._fail(error)
            raise
        except Exception as defect:
            _log.exception("a request failed by a defect", request_id=self._canonical.request_id)
            failure = InternalError("The server has a defect; its log tells more.")
            self._fail(failure)
            raise failure from defect
        else:
            self._observation.finished(self._finished)

    async def _run(self, consume: Callable[[Steps, Envelope], Awaitable[None]]) -> None:
        limit_s = self.services.policy.request_timeout_s
        registry, request = self.services.registry, self._canonical
        with self.services.running.enter():
            timeout = asyncio.timeout(limit_s)
            try:
                async with (
                    timeout,
                    registry.lease(request.model) as lease,
                    aclosing(self._observed(generate(lease.engine, request))) as steps,
                ):
                    prefix, with_timings = self.dialect.id_prefix, bool(self.body.timings)
                    await consume(steps, new_envelope(prefix, lease.card, with_timings=with_timings))
            except TimeoutError:
                if not timeout.expired():
                    raise
                raise RequestTimeout(f"The request took longer than {limit_s:g} seconds.") from None

    async def _observed(self, steps: AsyncGenerator[list[Event], None]) -> AsyncGenerator[list[Event], None]:
        has_text = False
        async with aclosing(steps):
            async for events in steps:
                for event in events:
                    if isinstance(event, TextDelta):
                        if not has_text:
                            has_text = True
                            self._observation.first_text()
                    elif isinstance(event, Finished):
                        self._finished.append(event)
                yield events

    def _fail(self, error: NibbleError) -> None:
        if isinstance(error, QueueFull):
            self.services.telemetry.rejected("queue_full")
        elif isinstance(error, ContextLengthExceeded):
            self.services.telemetry.rejected("context")
        self._observation.failed(error)


async def _whole(request: Request, work: _Work[BodyT], headers: dict[str, str]) -> Response:
    rendered = b""

    async def consume(steps: Steps, envelope: Envelope) -> None:
        nonlocal rendered
        rendered = work.dialect.render(await collect(steps), envelope)

    task = asyncio.create_task(work.run(consume))
    try:
        if not await outstays(request.receive, {task}):
            raise ClientDisconnect
        task.result()
    finally:
        await _settle(task)
    return Response(rendered, media_type="application/json", headers=headers)


async def _stream(request: Request, work: _Work[BodyT], headers: dict[str, str]) -> Response:
    policy = work.services.policy
    outbox = Outbox(policy.unread_bytes)

    async def consume(steps: Steps, envelope: Envelope) -> None:
        encoder = work.dialect.encoder(work.body, envelope)
        async for events in steps:
            if outbox.is_filling:
                # Steps that piled up come without a pause between them: what was not sent yet was then
                # not left unread by the client.
                await asyncio.sleep(0)
            outbox.put(encoder.encode(events))
        outbox.put(encoder.end())

    async def fill() -> None:
        try:
            await work.run(consume)
        except NibbleError as error:
            if not outbox.opened.done():
                raise
            outbox.close(work.dialect.encode_failure(error))
        finally:
            outbox.close()

    task = asyncio.create_task(fill())
    try:
        # The headers wait for the engine's word, so that a request it refuses gets a true status.
        if not await outstays(request.receive, {task, outbox.opened}):
            raise ClientDisconnect
        if not outbox.opened.done():
            task.result()
        return EventStream(outbox, task, policy, headers)
    except BaseException:
        await _settle(task)
        raise


async def _settle(task: asyncio.Task[None]) -> None:
    """Cancel the task if it still runs, and wait until all it held is given back."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # told to the client, or nobody is left to be told
