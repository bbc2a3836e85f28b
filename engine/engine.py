"""One loaded model, seen from the server: a supervised worker, and the events of each request.

Owned by the event loop. The engine outlives its workers: when one dies, its requests fail with WorkerDied, and
a new one is started after a pause, unless they keep dying.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Generator, Mapping
from typing import Self

import msgspec

from engine import frames
from engine.adapter import Adapter
from engine.added_adapters import AddedAdapters
from engine.backlog import Backlog, QueueLimits, entry_of
from engine.capability import check_capability
from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.embedding import EmbeddingRequest, Embeddings, PairPrompt
from engine.errors import (
    InternalError,
    InvalidRequest,
    ModelLoadFailed,
    ModelUnavailable,
    NibbleError,
    QueueTimeout,
    WorkerDied,
)
from engine.event_stream import EventStream, Take
from engine.events import Accepted, Piece
from engine.exchange import Body, Exchange, Reader
from engine.gathering import AdapterGathering, AnswerGathering, VectorGathering
from engine.pace import Pace
from engine.process_memory import ProcessMemory, process_memory
from engine.quarantine import Quarantine, suspects
from engine.question import Answer, Question
from engine.request import EngineRequest
from engine.restart_policy import RestartPolicy
from engine.spawned_worker import SpawnedWorker
from engine.stall_watch import StallWatch
from engine.worker_process import WorkerProcess

_logger = logging.getLogger("nibble.engine")
_BUSY_RETRY_S = 1.0


class Engine:
    """Implements ``generation.engine_port.EnginePort``. Made by ``Engine.start``."""

    facts: ModelFacts

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.restarts = 0
        self.stalls = 0
        """Restarts of workers that were silent, and were ended for it."""
        self._stalled: WorkerProcess | None = None
        """The one that is being ended for it."""
        self._worker: WorkerProcess | None = None
        self._exchanges: dict[int, Exchange] = {}
        self._pace = Pace()
        self._backlog = Backlog(config.model_id, self._pace)
        self._added = AddedAdapters(config.model_id, self._exchange, self._submit, self._tell_adapters)
        self._next_number = 1
        self._policy = RestartPolicy()
        self._quarantine = Quarantine(asyncio.get_running_loop().time)
        self._restart_s = 0.0
        """When the next worker is likely to be ready."""
        self._failure: NibbleError | None = None
        self._settled = EngineStats()
        self._latest = EngineStats()
        self._watch = StallWatch(config.stall_limit_s, self._exchanges, self._end_stalled)
        self._supervision: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, config: EngineConfig, spawned: SpawnedWorker | None = None) -> Self:
        """Load the model, in ``spawned`` where there is one, and wait until it has decoded a token.

        Raises ModelLoadFailed, ModelLoadTimeout and InsufficientMemory.
        """
        engine = cls(config)
        await engine._start_worker(spawned)
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
        self._fail_all(self._failure)
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
    def memory(self) -> ProcessMemory | None:
        """What its worker holds now, measured; None where there is none, and where the system does not tell."""
        return None if self._worker is None else process_memory(self._worker.pid)

    @property
    def stats(self) -> EngineStats:
        """Newest figures; totals count over all workers of this engine."""
        return self._latest.after(self._settled)

    async def generate(self, request: EngineRequest, take: Take) -> None:
        """Run ``request`` to its end, and tell ``take`` what each engine step brings. Cancelling the task that awaits
        this cancels the request.

        Raises ModelUnavailable, QueueFull, KeyQueueFull, RequestQuarantined, and whatever the worker refuses the
        request with, before anything is told; QueueTimeout before the first text; WorkerDied, and what ``take``
        raises, at any time.
        """
        worker = self._serving_worker()
        check_capability(self.config.model_id, self.facts, "completion")
        stream = EventStream(request.n * len(request.prompts), take)
        with self._exchange(worker, request, stream) as number:
            self._submit(worker, frames.Submit(number, request))
            await stream.result()
            self._quarantine.clear(request)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Vectors, or scores of pairs. Cancelling the task that awaits this cancels the request.

        Raises what ``generate`` raises.
        """
        worker = self._serving_worker()
        is_scoring = any(isinstance(item, PairPrompt) for item in request.inputs)
        check_capability(self.config.model_id, self.facts, "rerank" if is_scoring else "embedding")
        gathering = VectorGathering(len(request.inputs))
        with self._exchange(worker, request, gathering) as number:
            self._submit(worker, frames.Embed(number, request))
            vectors = await gathering.result()
            self._quarantine.clear(request)
            return vectors

    async def ask(self, question: Question) -> Answer:
        """What the worker knows without computing. Raises ModelUnavailable, InvalidRequest and WorkerDied."""
        worker = self._serving_worker()
        gathering = AnswerGathering()
        with self._exchange(worker, question, gathering) as number:
            self._submit(worker, frames.Ask(number, question))
            return await gathering.result()

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """Those that requests can name, by name."""
        return {adapter.name: adapter for adapter in self.config.adapters} | dict(self._added.by_name)

    async def load_adapter(self, adapter: Adapter) -> None:
        """Let requests name ``adapter``, in place of one of that name; the model is not loaded anew.

        Raises ModelLoadFailed for a file that cannot be used, which changes nothing; RequestQuarantined,
        ModelUnavailable and WorkerDied.
        """
        await self._added.load(self._serving_worker(), adapter)

    async def drop_adapter(self, name: str) -> None:
        """Let no more requests name an adapter that came after the start; those that run with it go on."""
        await self._added.drop(name, self._serving_worker)

    def _tell_adapters(self) -> None:
        others = tuple(each for each in self.facts.capabilities if each != "adapters")
        with_adapters = (*others, "adapters") if self.adapters else others
        self.facts = msgspec.structs.replace(self.facts, capabilities=with_adapters)

    def _serving_worker(self) -> WorkerProcess:
        if self._worker is None:
            left_s = self._restart_s - asyncio.get_running_loop().time()
            raise self._failure or ModelUnavailable(
                f"{self.config.model_id} is restarting", retry_after_s=max(_BUSY_RETRY_S, left_s)
            )
        return self._worker

    @contextlib.contextmanager
    def _exchange(self, worker: WorkerProcess, body: Body, reader: Reader) -> Generator[int]:
        """Number a request, and have ``reader`` told what comes of it; left before its end, it is cancelled.

        Raises RequestQuarantined, QueueFull and KeyQueueFull.
        """
        with _typed_encoding:
            self._quarantine.check(body)
        number = self._next_number
        self._next_number += 1
        exchange = Exchange(body, reader)
        queued = body if isinstance(body, (EngineRequest, EmbeddingRequest)) else None
        if queued is not None:
            entry = entry_of(queued, self._pace, context=self.facts.context)
            self._backlog.check(entry, self._queue_limits)
            self._backlog.add(number, entry)
            if queued.queue_timeout_s is not None:
                loop = asyncio.get_running_loop()
                exchange.patience = loop.call_later(queued.queue_timeout_s, self._give_up, number)
        self._watch.expect()
        self._exchanges[number] = exchange
        try:
            yield number
        finally:
            del self._exchanges[number]
            exchange.end_patience()
            if queued is not None:
                self._backlog.remove(number)
            if exchange.is_unfinished and worker is self._worker:
                worker.send(frames.Cancel(number))

    @property
    def _queue_limits(self) -> QueueLimits:
        config, running = self.config, self.facts.parallel
        return QueueLimits(
            choices=running + config.queue_limit,
            tenant_choices=running + config.key_queue_limit,
            tokens=config.queue_tokens,
            tenant_tokens=config.key_queue_tokens,
        )

    def _give_up(self, number: int) -> None:
        """End a request that was not begun with in time."""
        exchange = self._exchanges[number]
        exchange.patience = None
        if self._worker is not None:
            self._worker.send(frames.Cancel(number))
        exchange.fail(
            QueueTimeout(
                f"{self.config.model_id} did not come to this request in the time that it may wait for its turn",
                retry_after_s=self._backlog.retry_after_s,
            )
        )

    @staticmethod
    def _submit(worker: WorkerProcess, frame: frames.ToWorker) -> None:
        with _typed_encoding:
            worker.send(frame)

    # -- frames from the worker ---------------------------------------------------------------------------------

    def _on_frame(self, frame: frames.Reply) -> None:
        is_step = isinstance(frame, (frames.StepReport, frames.EmbeddingReport, frames.Begun))
        self._watch.hear(is_step=is_step)
        match frame:
            case frames.StepReport():
                self._learn(frame.stats)
                self._tell(frame.pieces)
                for failure in frame.failures:
                    self._fail(failure)
            case frames.EmbeddingReport():
                self._learn(frame.stats)
                for part in frame.parts:
                    if isinstance(gathering := self._reader(part.request), VectorGathering):
                        gathering.add(part)
                for failure in frame.failures:
                    self._fail(failure)
            case frames.Begun(requests=numbers):
                for number in numbers:
                    self._backlog.begin(number)
                    if exchange := self._exchanges.get(number):
                        exchange.begin()
            case frames.Admitted(accepted=accepted):
                self._accept(accepted)
            case frames.Answered(request=number, answer=answer):
                if isinstance(gathering := self._reader(number), AnswerGathering):
                    gathering.add(answer)
            case frames.Adapted(request=number):
                if isinstance(gathering := self._reader(number), AdapterGathering):
                    gathering.add()
            case frames.Refused(failure=failure):
                self._fail(failure)

    def _reader(self, number: int) -> Reader | None:
        exchange = self._exchanges.get(number)
        return None if exchange is None else exchange.reader

    def _learn(self, stats: EngineStats) -> None:
        self._latest = stats
        self._pace.learn(stats)

    def _accept(self, accepted: Accepted) -> None:
        if exchange := self._exchanges.get(accepted.request):
            self._watch.expect_steps()
            self._backlog.read(accepted.request, accepted.prompt_tokens)
            exchange.accept(accepted)

    def _tell(self, pieces: list[Piece]) -> None:
        told: list[EventStream] = []
        for piece in pieces:
            exchange = self._exchanges.get(piece.request)
            if exchange is None or not isinstance(stream := exchange.reader, EventStream):
                continue
            if piece.finish is not None:
                self._pace.learn_answer(piece.finish.completion_tokens)
            if stream.push(piece):
                told.append(stream)
        for stream in told:
            stream.tell()

    def _fail(self, failure: frames.Failure) -> None:
        if exchange := self._exchanges.get(failure.request):
            exchange.fail(failure.error.to_error())

    def _fail_all(self, error: NibbleError) -> None:
        for exchange in self._exchanges.values():
            exchange.fail(error)

    # -- supervision --------------------------------------------------------------------------------------------

    async def _start_worker(self, spawned: SpawnedWorker | None = None) -> None:
        worker = WorkerProcess(self._on_frame)
        self.facts = await worker.start(self.config, spawned)
        self._worker = worker
        self._pace.restart()
        self._added.load_again(worker)
        facts = self.facts
        self._latest = EngineStats(kv_capacity_tokens=facts.kv_tokens or facts.context * facts.parallel)
        _logger.info(
            "%s: KV cache %s, %d requests of at most %d tokens in %.0f MiB: %s",
            *(self.config.model_id, facts.kv_layout, facts.parallel, facts.context),
            *(facts.kv_bytes / 2**20, facts.kv_reason),
        )
        _logger.info(
            "%s: flash attention %s: %s", self.config.model_id, facts.flash_attention, facts.attention_reason
        )

    async def _supervise(self) -> None:
        """Wait for each death, tell its streams, and start the next worker: until stopped, or until it is hopeless."""
        while self._worker is not None:
            cause = await self._worker.exited()
            if is_stalled := self._worker is self._stalled:
                cause = "gave no sign of life for too long, and was ended"
            self._worker = self._stalled = None
            self._settled, self._latest = self.stats, EngineStats()
            held = self._quarantine.suspect(suspects(self._exchanges.values()))
            _logger.error(
                "the worker of %s %s; %d requests fail, and %d of them are in quarantine",
                *(self.config.model_id, cause, len(self._exchanges), held),
            )
            self._fail_all(WorkerDied(f"the process that runs {self.config.model_id} {cause}"))
            await self._restart(is_stalled=is_stalled)

    async def _restart(self, *, is_stalled: bool) -> None:
        loop = asyncio.get_running_loop()
        while (delay_s := self._policy.delay_after_death(loop.time())) is not None:
            self._restart_s = loop.time() + delay_s + self.facts.load_s
            await asyncio.sleep(delay_s)
            try:
                await self._start_worker()
            except NibbleError as error:
                _logger.error("%s does not start again: %s", self.config.model_id, error.message)
            else:
                self.restarts += 1
                self.stalls += is_stalled
                return
        self._failure = ModelLoadFailed(
            f"the process that runs {self.config.model_id} keeps dying, and is not started any more; see the log"
        )
        _logger.error("%s", self._failure.message)

    def _end_stalled(self, silent_s: float) -> None:
        if self._worker is not None:
            _logger.error(
                "the worker of %s has been silent for %.0f s and is ended", self.config.model_id, silent_s
            )
            self._stalled = self._worker
            self._worker.kill()


class _TypedEncoding:
    """Within it, what no frame can carry is an error of the tree. No generator: every request passes it twice."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, UnicodeEncodeError):
            raise InternalError("a lone surrogate reached the engine; the routes refuse them") from error
        if isinstance(error, (ValueError, OverflowError)):
            raise InvalidRequest(f"the request is too large to be passed on: {error}") from error


_typed_encoding = _TypedEncoding()
