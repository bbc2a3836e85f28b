"""One worker process, seen from the server: started, talked to, and known to be alive or dead.

Owned by the event loop. A worker has a scrubbed environment, no listening socket, and one end of a socket pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections import deque
from collections.abc import Callable
from typing import cast

from engine import frames
from engine.config import SAVE_LIMIT_S, EngineConfig, ModelFacts
from engine.errors import ModelLoadTimeout
from engine.load_death import cause_of, load_death
from engine.spawned_worker import SpawnedWorker

_logger = logging.getLogger("nibble.worker")
_LAST_LINES = 20
_STOP_PATIENCE_S = 3.0
_LAST_WORDS_S = 0.5
_FIRST_LOOK_S, _LAST_LOOK_S = 0.001, 0.1
"""Between looks whether a process is gone that has closed its standard error, as the end of it does."""


class WorkerProcess(asyncio.Protocol):
    """The process and the socket to it. ``on_frame`` is called with each frame, ``on_exit`` once, with the cause."""

    def __init__(self, on_frame: Callable[[frames.Reply], None]) -> None:
        self._on_frame = on_frame
        self._splitter = frames.FrameSplitter()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._ready: asyncio.Future[ModelFacts] = asyncio.get_running_loop().create_future()
        self._watch: asyncio.Task[str] | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._patience_s = _STOP_PATIENCE_S
        self._model_id = ""

    async def start(self, config: EngineConfig, spawned: SpawnedWorker | None = None) -> ModelFacts:
        """Load in ``spawned``, or else in a new process, and return the facts.

        Raises ModelLoadFailed, ModelLoadTimeout and InsufficientMemory; then no process is left.
        """
        self._model_id = config.model_id
        if config.prefix_disk_bytes:
            self._patience_s += SAVE_LIMIT_S
        spawned = spawned or SpawnedWorker.spawn()
        self._process = spawned.process
        try:
            spawned.connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: self, sock=spawned.connection)
        except BaseException:
            spawned.end()
            raise
        self._watch = asyncio.create_task(self._watch_exit(), name=f"watch worker of {config.model_id}")
        self.send(frames.Configure(config))
        try:
            async with asyncio.timeout(config.load_limit_s):
                return await self._ready
        except TimeoutError:
            await self.stop(patience_s=0.0)
            raise ModelLoadTimeout(
                f"{config.model_id} did not load within {config.load_limit_s:g} seconds, and its worker was ended:"
                " see whether the disk answers, or raise load_timeout_s"
            ) from None
        except BaseException:
            await self.stop(patience_s=0.0)
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None, "started before it is asked for"
        return self._process.pid

    def send(self, frame: frames.ToWorker) -> None:
        """Write a frame; nothing happens once the worker is gone, since its streams are told of that."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames.encode(frame))

    async def exited(self) -> str:
        """Wait for the end of the process; return its cause in words."""
        assert self._watch is not None, "started before it is waited for"
        return await asyncio.shield(self._watch)

    def kill(self) -> None:
        """End the process at once. Also ends one that is stopped (SIGSTOP)."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self, patience_s: float | None = None) -> None:
        """Close the socket, upon which the worker saves its prefixes and ends itself; kill it if it does not."""
        if self._transport is not None:
            self._transport.close()
        if self._watch is None:
            return
        try:
            async with asyncio.timeout(self._patience_s if patience_s is None else patience_s):
                await asyncio.shield(self._watch)
        except TimeoutError:
            self.kill()
            await self._watch

    async def _watch_exit(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        lines = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), self._process.stderr
        )
        async for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip()
            self._last_lines.append(line)
            _logger.warning("worker %d: %s", self._process.pid, line)
        pipe.close()
        pause_s = _FIRST_LOOK_S
        while (returncode := self._process.poll()) is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_LOOK_S)
        # What it said last tells who had begun. It is there already: only the loop has yet to read it.
        await asyncio.wait({self._closed}, timeout=_LAST_WORDS_S)
        if not self._ready.done():
            last = self._last_lines[-1] if self._last_lines else ""
            self._ready.set_exception(load_death(self._model_id, returncode, last))
        return cause_of(returncode)

    # -- asyncio.Protocol: called by the event loop -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, so there is nothing to check this by.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        for body in self._splitter.feed(data):
            frame = frames.decode_from_worker(body)
            if isinstance(frame, frames.Ready):
                if not self._ready.done():
                    self._ready.set_result(frame.facts)
            elif isinstance(frame, frames.LoadFailed):
                if not self._ready.done():
                    self._ready.set_exception(frame.error.to_error())
            else:
                self._on_frame(frame)
