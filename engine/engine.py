"""One loaded model, seen from the server: a supervised worker, and a stream of events for each request.

Owned by the event loop. The engine outlives its workers: when one dies, its requests fail with WorkerDied, and
a new one is started after a pause, unless they keep dying.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Self

from engine import frames
from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.errors import (
    InternalError,
    InvalidRequest,
    ModelLoadFailed,
    ModelUnavailable,
    NibbleError,
    QueueFull,
    WorkerDied,
)
from engine.event_stream import EventStream
from engine.events import Event, Piece
from engine.request import EngineRequest
from engine.restart_policy import RestartPolicy
from engine.worker_process import WorkerProcess

_logger = logging.getLogger("nibble.engine")
_BUSY_RETRY_S = 1.0


class Engine:
    """Implements ``generation.engine_port.EnginePort``. Made by ``Engine.start``."""

    facts: ModelFacts

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.restarts = 0
        self._worker: WorkerProcess | None = None
        self._streams: dict[int, EventStream] = {}
        self._choices = 0
        self._next_number = 1
        self._policy = RestartPolicy()
        self._failure: NibbleError | None = None
        self._settled = EngineStats()
        self._latest = EngineStats()
        self._heard_s = 0.0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._supervision: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, config: EngineConfig) -> Self:
        """Load the model and wait until it has decoded a token. Raises ModelLoadFailed and InsufficientMemory."""
        engine = cls(config)
        await engine._start_worker()
        engine._supervision = asyncio.create_task(engine._supervise(), name=f"supervise {config.model_id}")
        return engine

    async def stop(self) -> None:
        """End the worker. Requests that still run fail with ModelUnavailable."""
        self._failure = ModelUnavailable(
            f"{self.config.model_id} is being unloaded", retry_after_s=_BUSY_RETRY_S
        )
        if self._supervision is not None:
            self._supervision.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervision
        worker, self._worker = self._worker, None
        self._fail_streams(self._failure)
        if worker is not None:
            await worker.stop()

    @property
    def is_ready(self) -> bool:
        """Whether a worker that has decoded a token is there to take requests."""
        return self._worker is not None

    @property
    def failure(self) -> NibbleError | None:
        """Why this engine will never answer again, if so."""
        return self._failure

    @property
    def worker_pid(self) -> int | None:
        return self._worker.pid if self._worker is not None else None

    @property
    def stats(self) -> EngineStats:
        """Newest figures; totals count over all workers of this engine."""
        return self._latest.after(self._settled)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[list[Event], None]:
        """Run ``request``; each item is what one engine step brought. Closing the generator cancels the request.

        Raises ModelUnavailable, QueueFull, and whatever the worker refuses the request with, before the first item;
        WorkerDied at any time.
        """
        worker = self._worker
        if worker is None:
            raise self._failure or ModelUnavailable(
                f"{self.config.model_id} is restarting", retry_after_s=_BUSY_RETRY_S
            )
        stream = EventStream(request.n * len(request.prompts))
        self._check_queue(stream.choices_left)
        choices = stream.choices_left
        number = self._next_number
        self._next_number += 1
        self._expect_frames()
        self._streams[number] = stream
        self._choices += choices
        try:
            self._submit(worker, frames.Submit(number, request))
            while events := await stream.read():
                yield events
        finally:
            del self._streams[number]
            self._choices -= choices
            if stream.choices_left and worker is self._worker:
                worker.send(frames.Cancel(number))

    @staticmethod
    def _submit(worker: WorkerProcess, frame: frames.Submit) -> None:
        try:
            worker.send(frame)
        except UnicodeEncodeError as error:
            raise InternalError("a lone surrogate reached the engine; the routes refuse them") from error
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"the request is too large to be passed on: {error}") from error

    def _check_queue(self, choices: int) -> None:
        limit = self.facts.parallel + self.config.queue_limit
        if self._choices + choices > limit:
            raise QueueFull(
                f"{self.config.model_id} has {self._choices} answers running or waiting, and takes {limit}",
                retry_after_s=_BUSY_RETRY_S,
            )

    # -- frames from the worker ---------------------------------------------------------------------------------

    def _on_frame(self, frame: frames.StepReport | frames.Admitted | frames.Refused) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        match frame:
            case frames.StepReport():
                self._latest = frame.stats
                for piece in frame.pieces:
                    self._push(piece)
                for failure in frame.failures:
                    self._fail_stream(failure)
            case frames.Admitted(accepted=accepted):
                if stream := self._streams.get(accepted.request):
                    stream.push(accepted)
            case frames.Refused(failure=failure):
                self._fail_stream(failure)

    def _push(self, piece: Piece) -> None:
        stream = self._streams.get(piece.request)
        if stream is None or stream.is_over:
            return
        stream.push(piece)
        if stream.is_over and stream.choices_left and self._worker is not None:
            # Its reader is too slow. It may not come back for long, and must not hold a place until then.
            self._worker.send(frames.Cancel(piece.request))

    def _fail_stream(self, failure: frames.Failure) -> None:
        if stream := self._streams.get(failure.request):
            stream.fail(failure.error.to_error())

    def _fail_streams(self, error: NibbleError) -> None:
        for stream in self._streams.values():
            stream.fail(error)

    # -- supervision --------------------------------------------------------------------------------------------

    async def _start_worker(self) -> None:
        worker = WorkerProcess(self._on_frame)
        self.facts = await worker.start(self.config)
        self._worker = worker
        facts = self.facts
        self._latest = EngineStats(kv_capacity_tokens=facts.kv_tokens or facts.context * facts.parallel)
        _logger.info(
            "%s: KV cache %s, %d requests of at most %d tokens in %.0f MiB: %s",
            *(self.config.model_id, facts.kv_layout, facts.parallel, facts.context),
            *(facts.kv_bytes / 2**20, facts.kv_reason),
        )

    async def _supervise(self) -> None:
        """Wait for each death, tell its streams, and start the next worker: until stopped, or until it is hopeless."""
        while self._worker is not None:
            cause = await self._worker.exited()
            self._worker = None
            self._settled, self._latest = self.stats, EngineStats()
            _logger.error(
                "the worker of %s %s; %d requests fail", self.config.model_id, cause, len(self._streams)
            )
            self._fail_streams(WorkerDied(f"the process that runs {self.config.model_id} {cause}"))
            await self._restart()

    async def _restart(self) -> None:
        loop = asyncio.get_running_loop()
        while (delay_s := self._policy.delay_after_death(loop.time())) is not None:
            await asyncio.sleep(delay_s)
            try:
                await self._start_worker()
            except NibbleError as error:
                _logger.error("%s does not start again: %s", self.config.model_id, error.message)
            else:
                self.restarts += 1
                return
        self._failure = ModelLoadFailed(
            f"the process that runs {self.config.model_id} keeps dying, and is not started any more; see the log"
        )
        _logger.error("%s", self._failure.message)

    # -- stalls: a worker that owes an answer and says nothing --------------------------------------------------

    @property
    def _owes(self) -> bool:
        """Whether the worker has something to say. A stream that only its reader keeps open is none of its debts."""
        return any(not stream.is_over for stream in self._streams.values())

    def _expect_frames(self) -> None:
        """Arm the timer, if none is; an idle engine has none, and so takes no CPU. Called before a stream is added."""
        loop = asyncio.get_running_loop()
        if not self._owes:
            self._heard_s = loop.time()  # it was silent because nothing was asked of it
        if self._stall_timer is None:
            self._stall_timer = loop.call_later(self.config.stall_limit_s, self._check_stall)

    def _check_stall(self) -> None:
        self._stall_timer = None
        if not self._owes or self._worker is None:
            return
        loop = asyncio.get_running_loop()
        silent_s = loop.time() - self._heard_s
        if silent_s >= self.config.stall_limit_s:
            _logger.error(
                "the worker of %s has been silent for %.0f s and is ended", self.config.model_id, silent_s
            )
            self._worker.kill()
            return
        self._stall_timer = loop.call_later(self.config.stall_limit_s - silent_s, self._check_stall)
