"""The life of the serving process: signals, drain, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator

import structlog
import uvicorn

from engine.errors import ModelUnavailable
from server.app import App

_POLL_S = 0.05
_END_S = 2.0
"""How long engines get to end when nobody wants to wait."""


class ServerProcess(uvicorn.Server):
    """uvicorn with our own signals. Owned by the event loop, which signal handlers here run on.

    uvicorn closes its listeners at the first signal, and ``/ready`` could not say 503 any more; it raises the
    signal again when it is done, so that the exit status is not 0; and sse-starlette looks for its handler to
    end streams with. Here the first signal begins the drain and the second ends at once.
    """

    def __init__(self, config: uvicorn.Config, app: App, drain_s: float) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._app = app
        self._drain_s = drain_s
        self._drain: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._when_started: Callable[[], Awaitable[None]] | None = None
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def when_started(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` beside the server, once it listens."""
        self._when_started = work

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._when_started is not None:
            task = asyncio.create_task(self._run(self._when_started))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in tuple(self._background):
            task.cancel()
        if not self.force_exit:
            await super().shutdown(sockets)
            return
        # uvicorn would log each cancelled task as a defect, its own for the lifespan among them.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        for server in self.servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._app.registry.stop()

    def leave(self, exit_code: int) -> None:
        """Begin to end the process, without a signal."""
        self.exit_code = exit_code
        self.should_exit = True

    def _on_signal(self, number: int) -> None:
        if self._drain is None:
            self.exit_code = 128 + number if number == signal.SIGINT else 0
            self._drain = asyncio.create_task(self._drain_and_leave())
        else:
            self.force_exit = self.should_exit = True

    async def _drain_and_leave(self) -> None:
        running = self._app.services.running
        running.drain()
        self._log.info("shutting down", running=len(running), drain_s=self._drain_s)
        try:
            async with asyncio.timeout(self._drain_s):
                while len(running):  # noqa: ASYNC110 - counted where nobody else waits for it
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self._log.warning("ended what was still running", running=len(running))
            running.end(ModelUnavailable("The server is shutting down.", retry_after_s=5.0))
        self.should_exit = True

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            self._log.exception("the server cannot go on")
            self.leave(1)
