"""The engine loop of one model: schedule, run, tell. Everything here happens on the worker's engine thread."""

from __future__ import annotations

from collections.abc import Callable

from engine.backend import Backend, DecodeFailed, Tokens
from engine.config import EngineStats
from engine.errors import ErrorRecord, InternalError
from engine.events import Finish, FinishReason, Piece
from engine.executor import Executor
from engine.frames import Failure, StepReport
from engine.prefix_cache import PrefixCache
from engine.scheduler import Plan, Scheduler
from engine.sequence import Sequence
from engine.step_budget import StepBudget


class EngineCore:
    """Runs sequences to their end. Owned by the worker's engine thread.

    ``step`` computes one token for every running sequence and returns what that brought, as one report.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        end_tokens: Tokens,
        clock: Callable[[], float],
        step_target_s: float = 0.25,
        budget: StepBudget | None = None,
    ) -> None:
        self._end_tokens = frozenset(end_tokens.tolist())
        self._clock = clock
        self._cache = PrefixCache(backend.slots, backend.slot_tokens, is_sharing=backend.shares_prefixes)
        self._scheduler = Scheduler(
            self._cache,
            budget or StepBudget(target_s=step_target_s, maximum=backend.batch_tokens),
            batch_tokens=backend.batch_tokens,
            clock=clock,
        )
        self._executor = Executor(backend)
        self._requests: dict[int, list[Sequence]] = {}
        self._stats = EngineStats(kv_capacity_tokens=backend.slots * backend.slot_tokens)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def waiting(self) -> int:
        """Sequences that have no slot yet."""
        return self._scheduler.waiting

    def add(self, sequences: list[Sequence]) -> None:
        """Queue the choices of one request."""
        if sequences:
            self._requests[sequences[0].request] = sequences
            for sequence in sequences:
                sequence.arrived_s = self._clock()
                self._scheduler.add(sequence)

    def cancel(self, request: int) -> None:
        """Drop whatever is left of ``request``; its slots are free for the next step. Unknown ids are finished ones."""
        for sequence in self._requests.pop(request, ()):
            if sequence.is_live:
                self._scheduler.finish(sequence)

    def step(self) -> StepReport:
        """Schedule, run, tell. Owes an answer to every sequence in the plan, also when the step fails."""
        plan = self._scheduler.plan()
        started_s = self._clock()
        try:
            advanced = self._executor.run(plan)
        except DecodeFailed as error:
            return self._fail(plan, error)
        self._scheduler.commit(plan, self._clock() - started_s)
        self._stats.steps_total += 1
        pieces = [piece for sequence in advanced if (piece := self._tell(sequence)) is not None]
        return StepReport(pieces=pieces, failures=[], stats=self._refresh_stats())

    def _tell(self, sequence: Sequence) -> Piece | None:
        """What the newest token means to the client: text, an end, or nothing yet."""
        token = int(sequence.tokens[sequence.length - 1])
        self._count(sequence)
        text = ""
        reason: FinishReason | None = None
        if token in self._end_tokens:
            reason = "stop"
            text = sequence.stop.flush()
        else:
            text = sequence.detokenizer.add(token)
            if sequence.length > sequence.min_length:
                text = sequence.stop.add(text)
            if sequence.stop.is_matched:
                reason = "stop"
            elif sequence.length >= sequence.max_length:
                reason = "length"
                text += sequence.stop.flush()
        if reason is None and not text:
            return None
        untold, sequence.told = sequence.generated - sequence.told, sequence.generated
        finish = None if reason is None else self._finish(sequence, reason)
        return Piece(sequence.request, sequence.choice, text, untold, finish)

    def _count(self, sequence: Sequence) -> None:
        self._stats.generation_tokens_total += 1
        if sequence.generated == 1 and sequence.is_first_choice:
            self._stats.prompt_tokens_total += sequence.prompt_length
            self._stats.cached_prompt_tokens_total += sequence.cached

    def _finish(self, sequence: Sequence, reason: FinishReason) -> Finish:
        self._scheduler.finish(sequence)
        siblings = self._requests.get(sequence.request, [])
        if not any(sibling.is_live for sibling in siblings):
            self._requests.pop(sequence.request, None)
        counts_prompt = sequence.is_first_choice
        now_s = self._clock()
        return Finish(
            reason=reason,
            prompt_tokens=sequence.prompt_length if counts_prompt else 0,
            cached_tokens=sequence.cached if counts_prompt else 0,
            completion_tokens=sequence.generated,
            queue_s=sequence.prefill_started_s - sequence.arrived_s,
            prefill_s=sequence.decode_started_s - sequence.prefill_started_s,
            decode_s=now_s - sequence.decode_started_s,
        )

    def _fail(self, plan: Plan, error: DecodeFailed) -> StepReport:
        """A step that failed ends the requests in it, and forgets what their slots hold."""
        # Those with a transfer too: the failure may have come before it was carried out.
        sequences = {
            *plan.decodes,
            *(chunk.sequence for chunk in plan.chunks),
            *(transfer.sequence for transfer in plan.transfers),
        }
        requests = {sequence.request for sequence in sequences}
        for sequence in sequences:
            self._cache.forget(sequence.slot)
        record = ErrorRecord.of(InternalError(f"the step that held this request failed: {error}"))
        for request in requests:
            self.cancel(request)
        failures = [Failure(request, record) for request in sorted(requests)]
        return StepReport(pieces=[], failures=failures, stats=self._refresh_stats())

    def _refresh_stats(self) -> EngineStats:
        stats = self._stats
        stats.running = self._scheduler.running
        stats.waiting = self._scheduler.waiting
        stats.kv_tokens = self._cache.held_tokens
        return stats

    @property
    def stats(self) -> EngineStats:
        return self._refresh_stats()
