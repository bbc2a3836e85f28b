"""The engine loop of a model that makes vectors: pack, compute, tell. On the worker's engine thread, as the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.backend import Batch, DecodeFailed, Tokens
from engine.config import EngineStats
from engine.embedding import Vectors
from engine.embedding_packer import EmbeddingItem, EmbeddingPacker
from engine.errors import ErrorRecord, InternalError
from engine.frames import EmbeddingReport, Failure
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS

_PACKED_TOKENS = 512
"""Of inputs that share a step. More would compute no faster: attention is paid for the square of a batch."""
Rows = npt.NDArray[np.float32]


class EmbeddingBackend(Protocol):
    """What computes vectors. The real one is ``engine.native.embedding_context.NativeEmbeddingContext``."""

    batch_tokens: int
    """Tokens that one step computes at most, and so one input has at most."""
    batch_sequences: int
    """Inputs that one step computes at most."""
    width: int
    """Numbers in a vector."""
    is_scoring: bool
    """Whether the vector is a score instead of a place in a space of meanings."""
    batch: Batch

    def embed(self, count: int, sequences: int) -> Rows:
        """Compute the first ``count`` entries of ``batch``, whose slots are 0 to ``sequences`` - 1.

        Returns a vector per slot, shape (sequences, width), the caller's to keep. Raises DecodeFailed.
        """
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """One request, read: the tokens of each input, and how much of each vector is wanted."""

    request: int
    inputs: list[Tokens]
    dimensions: int


class EmbeddingCore:
    """Runs jobs to their end. Owned by the worker's engine thread."""

    def __init__(
        self,
        backend: EmbeddingBackend,
        clock: Callable[[], float] = time.perf_counter,
        *,
        tell_begun: Callable[[list[int]], None] = lambda requests: None,
    ) -> None:
        """``tell_begun`` is told of requests before the first step that computes something of theirs."""
        self._tell_begun = tell_begun
        self._waiting: set[int] = set()
        """Requests that nothing was computed for."""
        self._backend = backend
        self._clock = clock
        self._packer = EmbeddingPacker(
            batch_tokens=min(_PACKED_TOKENS, backend.batch_tokens), batch_sequences=backend.batch_sequences
        )
        self._counting = np.arange(backend.batch_tokens, dtype=np.int32)
        self._jobs: dict[int, EmbeddingJob] = {}
        self._left: dict[int, int] = {}
        self._stats = EngineStats()

    @property
    def has_work(self) -> bool:
        return self._packer.waiting > 0

    def add(self, job: EmbeddingJob) -> None:
        self._jobs[job.request] = job
        self._waiting.add(job.request)
        self._left[job.request] = len(job.inputs)
        self._packer.add(
            [EmbeddingItem(job.request, index, tokens) for index, tokens in enumerate(job.inputs)]
        )

    def cancel(self, request: int) -> None:
        """Drop whatever is left of ``request``. Unknown ids are finished ones."""
        self._packer.remove(request)
        self._forget(request)

    def step(self) -> EmbeddingReport:
        """Compute one batch, and tell each request in it what it brought, or that it failed."""
        batch = self._packer.pack()
        if begun := self._waiting.intersection(item.request for item in batch):
            self._waiting -= begun
            self._tell_begun(sorted(begun))
        self._stats.steps_total += 1
        self._stats.batch_sizes_total.add(len(batch), BATCH_BOUNDS)
        started_s = self._clock()
        try:
            rows = self._backend.embed(self._fill(batch), len(batch))
        except DecodeFailed as error:
            failure = InternalError(f"the step that held this request failed: {error}")
            return EmbeddingReport([], self._fail({item.request for item in batch}, failure), self.stats)
        self._stats.step_seconds_total.add(self._clock() - started_s, LATENCY_BOUNDS)
        self._stats.prompt_tokens_total += sum(len(item.tokens) for item in batch)
        places: dict[int, list[int]] = {}
        for place, item in enumerate(batch):
            places.setdefault(item.request, []).append(place)
        parts: list[Vectors] = []
        failed: set[int] = set()
        for request, own in places.items():
            vectors = self._finished(rows[own], self._jobs[request].dimensions)
            if not np.isfinite(vectors).all():
                failed.add(request)
                continue
            parts.append(Vectors(request, [batch[place].index for place in own], vectors.tobytes()))
            self._left[request] -= len(own)
            if not self._left[request]:
                self._forget(request)
        failure = InternalError("the model computes no numbers (NaN) for this input")
        return EmbeddingReport(parts, self._fail(failed, failure), self.stats)

    def _fill(self, batch: list[EmbeddingItem]) -> int:
        """Write the batch; return its length."""
        target, at = self._backend.batch, 0
        for slot, item in enumerate(batch):
            end = at + len(item.tokens)
            target.token[at:end] = item.tokens
            target.position[at:end] = self._counting[: end - at]
            target.slot[at:end] = slot
            at = end
        # Pooling reads every token.
        target.wants_logits[:at] = 1
        return at

    def _finished(self, rows: Rows, dimensions: int) -> npt.NDArray[np.float32]:
        """Vectors as they are told: of length 1, cut before that; scores between 0 and 1."""
        if self._backend.is_scoring:
            return rows.astype("<f4")
        # In double precision: the square of a large float32 is none any more.
        cut = rows[:, :dimensions].astype(np.float64)
        lengths = np.linalg.norm(cut, axis=1, keepdims=True)
        return (cut / np.where(lengths > 0, lengths, 1)).astype("<f4")

    def _fail(self, requests: set[int], error: InternalError) -> list[Failure]:
        for request in requests:
            self.cancel(request)
        return [Failure(request, ErrorRecord.of(error)) for request in sorted(requests)]

    def _forget(self, request: int) -> None:
        self._jobs.pop(request, None)
        self._left.pop(request, None)
        self._waiting.discard(request)

    @property
    def stats(self) -> EngineStats:
        """The newest figures; one object, changed by each step."""
        self._stats.waiting = self._packer.waiting
        return self._stats
