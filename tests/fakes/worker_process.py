"""A worker process that is none: it notes what it is sent, and says and dies as a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine import frames
from engine.config import EngineConfig, ModelFacts
from engine.errors import NibbleError
from engine.spawned_worker import SpawnedWorker
from tests.fakes.facts import facts


class FakeWorkerProcess:
    """Takes the place of ``engine.worker_process.WorkerProcess``. ``made`` lists all of a test, oldest first."""

    made: list[FakeWorkerProcess]
    start_failures: list[NibbleError]
    """What the next starts fail with."""

    def __init__(self, on_frame: Callable[[frames.Reply], None]) -> None:
        self.say = on_frame
        self.sent: list[frames.ToWorker] = []
        self.pid = 4242 + len(self.made)
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.made.append(self)

    async def start(self, config: EngineConfig, spawned: SpawnedWorker | None = None) -> ModelFacts:
        if self.start_failures:
            raise self.start_failures.pop(0)
        return facts()

    def send(self, frame: frames.ToWorker) -> None:
        frames.encode(frame)  # what cannot cross must fail here, too
        self.sent.append(frame)

    async def exited(self) -> str:
        return await asyncio.shield(self._end)

    @property
    def is_dead(self) -> bool:
        return self._end.done()

    def kill(self) -> None:
        if not self._end.done():
            self._end.set_result("was ended by SIGKILL")

    async def stop(self) -> None:
        self.kill()

    @property
    def submitted(self) -> list[int]:
        return [frame.request for frame in self.sent if isinstance(frame, frames.Submit)]

    @property
    def cancelled(self) -> list[int]:
        return [frame.request for frame in self.sent if isinstance(frame, frames.Cancel)]
