"""The life of the serving process: signals, drain, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING

import structlog
import uvicorn

from engine.errors import ModelUnavailable
from model_registry.registry import ModelRegistry
from server.service_manager import notify

if TYPE_CHECKING:
    from server.app import App

_POLL_S = 0.05
_COLLECTED_AT = 10_000
"""Objects made and not freed between two looks for garbage; 700 by default."""
_END_S = 2.0
"""How long engines get to end when nobody wants to wait."""


class ServerProcess(uvicorn.Server):
    """uvicorn with our own signals. Owned by the event loop, which signal handlers here run on.

    uvicorn closes its listeners at the first signal, and ``/ready`` could not say 503 any more; and it raises the
    signal again when it is done, so that the exit status is not 0. Here the first signal begins the drain and the
    second ends at once.
    """

    def __init__(self, config: uvicorn.Config, registry: ModelRegistry, drain_s: float) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._registry = registry
        self._app: App | None = None
        self._has_app = asyncio.Event()
        self.drain_s = drain_s
        self._reload: Callable[[], Awaitable[None]] | None = None
        self._ends_with_terminal = False
        self._drain: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._when_started: Callable[[], Awaitable[None]] | None = None
        self._leaving = asyncio.Event()
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        # nohup ignores it: who says so wants a server that outlives its terminal.
        self._ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def take(self, app: App) -> None:
        """Look after ``app`` as well, which is what is served from now on."""
        self._app = app
        self._has_app.set()
        # Nothing from here on is garbage of the start: no later collection needs to look at it.
        gc.enable()
        gc.collect()
        gc.freeze()
        # What requests leave is mostly freed without it.
        gc.set_threshold(_COLLECTED_AT)

    def when_started(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` beside the server, once it listens."""
        self._when_started = work

    def when_hung_up(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Run ``reload`` at each SIGHUP."""
        self._reload = reload

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._when_started is not None:
            self._begin(self._when_started)

    async def main_loop(self) -> None:
        """Wait for the end. uvicorn's own loop looks ten times a second whether it should, and so is never idle;
        what else it does, a new Date header each second, is ``RequestObserver``'s part here.
        """
        await self.on_tick(0)
        await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in tuple(self._background):
            task.cancel()
        if not self.force_exit:
            await super().shutdown(sockets)
        # Asked anew: of the second signal, which may come meanwhile, uvicorn leaves out the app's own end.
        if not self.force_exit:
            return
        # It would also log each cancelled task as a defect, its own for the lifespan among them.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        for server in self.servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._registry.stop()

    def leave(self, exit_code: int) -> None:
        """Begin to end the process, without a signal."""
        self.exit_code = exit_code
        self._leave()

    def _on_hangup(self) -> None:
        """SIGHUP is the word for reading settings anew, and also what a terminal says that was closed."""
        if self._drain is not None:
            return
        if self._ends_with_terminal and not _has_terminal():
            self._on_signal(signal.SIGTERM)
        elif self._reload is not None:
            self._begin(self._reload)

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._run(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _on_signal(self, number: int) -> None:
        if self._drain is None:
            self.exit_code = 128 + number if number == signal.SIGINT else 0
            self._drain = asyncio.create_task(self._drain_and_leave())
        else:
            self.force_exit = True
            self._leave()

    async def _drain_and_leave(self) -> None:
        # What it can be told before is that the process lives; all else waits for the app, too.
        await self._has_app.wait()
        assert self._app is not None
        running = self._app.services.running
        running.drain()
        # They go on where they ended when they are asked for again, which running answers cannot.
        jobs = asyncio.create_task(self._app.jobs.stop())
        notify("STOPPING=1")
        self._log.info("shutting down", running=len(running), drain_s=self.drain_s)
        try:
            async with asyncio.timeout(self.drain_s):
                while len(running):  # noqa: ASYNC110 - counted where nobody else waits for it
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            self._log.warning("ended what was still running", running=len(running))
            running.end(ModelUnavailable("The server is shutting down.", retry_after_s=5.0))
        await jobs
        self._leave()

    def _leave(self) -> None:
        self.should_exit = True  # uvicorn's word for it, which its start asks for
        self._leaving.set()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            self._log.exception("the server cannot go on")
            self.leave(1)


def _has_terminal() -> bool:
    """Whether somebody sits there; a terminal that was closed is none any more."""
    return os.isatty(0) or os.isatty(2)
