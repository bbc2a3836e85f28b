"""The work of one request, in a task of its own: it holds the model, and ends early in one way.

A client that goes away, a time limit and a server that stops all cancel that task, which gives back what it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import structlog
from starlette.requests import ClientDisconnect, Request

from engine.errors import InternalError, NibbleError, RequestTimeout
from routes.account import Account
from routes.disconnect import outstays, settle
from routes.queue_patience import QueuePatience
from routes.rejections import REJECTIONS
from routes.services import LeasePort, Services
from routes.telemetry import RequestObservation

_log = structlog.stdlib.get_logger(__name__)


class Work:
    """What one request asks of ``model_id``, on ``account``."""

    def __init__(
        self,
        services: Services,
        model_id: str,
        request_id: str,
        observation: RequestObservation,
        account: Account,
        patience: QueuePatience,
        adapters: Sequence[str] = (),
    ) -> None:
        """``adapters`` are names of those that are needed."""
        self._adapters = adapters
        self.services = services
        self.patience = patience
        self._account = account
        self._model_id = model_id
        self._request_id = request_id
        self._observation = observation

    async def run(self, act: Callable[[LeasePort], Awaitable[None]]) -> None:
        """Hold the model while ``act`` uses it. Raises errors of the tree alone."""
        is_whole = False
        try:
            await self._hold(act)
        except asyncio.CancelledError:
            self._observation.aborted()
            raise
        except NibbleError as error:
            self._fail(error)
            raise
        except Exception as defect:
            _log.exception("a request failed by a defect", request_id=self._request_id)
            failure = InternalError("The server has a defect; its log tells more.")
            self._fail(failure)
            raise failure from defect
        else:
            is_whole = True
            self._observation.finished(self._account.ends)
        finally:
            self._account.close(self._model_id, is_whole=is_whole)

    async def _hold(self, act: Callable[[LeasePort], Awaitable[None]]) -> None:
        limit_s = self.services.policy.request_timeout_s
        with self.services.running.enter():
            timeout = asyncio.timeout(limit_s)
            try:
                # The key's place comes first: who waits for one holds nobody else up.
                async with timeout, self.patience.within(self._account.caller.place()):
                    lease = self.services.registry.lease(self._model_id, adapters=self._adapters)
                    async with lease as held:
                        await act(held)
            except TimeoutError:
                if not timeout.expired():
                    raise
                raise RequestTimeout(f"The request took longer than {limit_s:g} seconds.") from None

    def _fail(self, error: NibbleError) -> None:
        if (reason := REJECTIONS.get(type(error))) is not None:
            self.services.telemetry.rejected(reason)
        self._observation.failed(error)


async def outlast(request: Request, work: Coroutine[None, None, None]) -> None:
    """Run ``work`` to its end while the client stays. Raises what it raises, or ClientDisconnect."""
    task = asyncio.create_task(work)
    try:
        if not await outstays(request.scope, request.receive, task):
            raise ClientDisconnect
        task.result()
    finally:
        await settle(task)
