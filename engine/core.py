"""The engine loop of one model: schedule, run, tell. Everything here happens on the worker's engine thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.backend import Backend, DecodeFailed, Logits, Tokens
from engine.config import EngineStats
from engine.constraint.constraint import Constraint
from engine.errors import ErrorRecord, InternalError, InvalidRequest, NibbleError
from engine.events import Finish, FinishReason, Piece
from engine.executor import Executor
from engine.frames import Failure, StepReport
from engine.prefix_cache import PrefixCache
from engine.prefix_store import PrefixStore
from engine.scheduler import Scheduler
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
        budget: StepBudget | None = None,
        prefix_memory_bytes: int = 0,
    ) -> None:
        # Memory that cannot be cut holds no prefixes.
        store = PrefixStore(prefix_memory_bytes) if prefix_memory_bytes and backend.shares_prefixes else None
        self._end_tokens = frozenset(end_tokens.tolist())
        self._clock = clock
        self._cache = PrefixCache(
            backend.slots,
            backend.slot_tokens,
            is_sharing=backend.shares_prefixes,
            pool_tokens=backend.pool_tokens,
            is_saving=store is not None,
        )
        self._scheduler = Scheduler(
            self._cache,
            budget or StepBudget(target_s=0.25, maximum=backend.batch_tokens),
            batch_tokens=backend.batch_tokens,
            output_rows=backend.output_rows,
            clock=clock,
            store=store,
        )
        self._executor = Executor(backend, store)
        self._requests: dict[int, list[Sequence]] = {}
        self._stats = EngineStats(
            kv_capacity_tokens=backend.pool_tokens or backend.slots * backend.slot_tokens
        )

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
        for sequence in plan.sampled:
            if sequence.constraint is not None:
                # Computed on another thread while the model computes.
                sequence.constraint.start_mask()
        started_s = self._clock()
        try:
            self._scheduler.retract(plan, self._executor.transfer(plan))
            logits = self._executor.run(plan)
        except DecodeFailed as error:
            self._executor.forget(plan.changed_slots)
            return StepReport(pieces=[], failures=self._fail(plan.touched, error), stats=self.stats)
        self._scheduler.commit(plan, self._clock() - started_s)
        self._stats.steps_total += 1
        pieces: list[Piece] = []
        failures: list[Failure] = []
        row = 0
        for sequence in plan.sampled:
            rows = 1 + len(sequence.drafts)
            if not sequence.is_live:
                # One that failed in this very step has taken the other choices of its request along.
                sequence.drafted += len(sequence.drafts)
            else:
                try:
                    piece = self._advance(sequence, logits[row : row + rows])
                except (DecodeFailed, NibbleError) as error:
                    self._executor.forget([sequence.slot])
                    failures += self._fail([sequence], error)
                else:
                    if piece is not None:
                        pieces.append(piece)
            row += rows
        return StepReport(pieces=pieces, failures=failures, stats=self.stats)

    def _advance(self, sequence: Sequence, logits: Logits) -> Piece | None:
        """Sample behind the newest token, and behind each draft for as long as the drafts come true.

        ``logits`` has shape (1 + drafts, vocabulary). Drawing every token as if there were no drafts, and keeping
        a draft only where it is what was drawn, leaves the distribution as it is.
        """
        drafts, accepted = sequence.drafts, 0
        text = ""
        reason: FinishReason | None = None
        for row in range(len(logits)):
            if sequence.constraint is not None:
                sequence.constraint.apply(logits[row])
            token = sequence.sampler.sample(logits[row], may_end=sequence.may_end)
            sequence.append(token)
            self._count(sequence)
            more, reason = self._read(sequence, token)
            text += more
            if sequence.constraint is not None:
                more, reason = self._follow(sequence, sequence.constraint, token, reason)
                text += more
            if reason is not None or row == len(drafts) or token != drafts[row]:
                break
            accepted += 1
        if len(drafts):
            self._settle_drafts(sequence, accepted)
        if reason is None and not text:
            return None
        untold, sequence.told = sequence.generated - sequence.told, sequence.generated
        finish = None if reason is None else self._finish(sequence, reason)
        return Piece(sequence.request, sequence.choice, text, untold, finish)

    def _read(self, sequence: Sequence, token: int) -> tuple[str, FinishReason | None]:
        """What ``token``, the newest of ``sequence``, means to the client: text, an end, both or nothing yet."""
        if token in self._end_tokens:
            return sequence.stop.flush(), "stop"
        text = sequence.detokenizer.add(token)
        if sequence.length > sequence.min_length:
            text = sequence.stop.add(text)
        if sequence.stop.is_matched:
            return text, "stop"
        if sequence.length >= sequence.max_length:
            return text + sequence.stop.flush(), "length"
        return text, None

    def _follow(
        self, sequence: Sequence, constraint: Constraint, token: int, reason: FinishReason | None
    ) -> tuple[str, FinishReason | None]:
        """Tell the constraint of ``token``, and append the tokens that it leaves no choice about.

        Returns what ``_read`` does, for the appended ones. An answer that is whole ends here: the model need not
        be asked for the token that says so.
        """
        if token in self._end_tokens and not constraint.may_end:
            # The sampler ends an answer where it has nothing left to choose from.
            raise InvalidRequest("biases and bans of the request leave no token that its constraint allows")
        constraint.accept([token])
        text = ""
        if reason is None and (forced := constraint.forced()):
            appended: list[int] = []
            for each in forced:
                sequence.append(each)
                sequence.sampler.accept(each)
                self._count(sequence)
                appended.append(each)
                more, reason = self._read(sequence, each)
                text += more
                if reason is not None:
                    break
            constraint.accept(appended)
            sequence.forced += len(appended)
            self._stats.forced_tokens_total += len(appended)
            self._scheduler.take_run(sequence)
        if reason is None and constraint.is_complete:
            return text + sequence.stop.flush(), "stop"
        return text, reason

    def _settle_drafts(self, sequence: Sequence, accepted: int) -> None:
        """Keep the drafts that came true in the cache, and take the others out of it."""
        drafted = len(sequence.drafts)
        self._stats.draft_tokens_total += drafted
        self._stats.accepted_draft_tokens_total += accepted
        sequence.drafted += drafted
        sequence.accepted += accepted
        self._scheduler.keep_drafts(sequence, accepted)
        if accepted < drafted:
            self._executor.cut(sequence)

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
            drafted_tokens=sequence.drafted,
            accepted_tokens=sequence.accepted,
            forced_tokens=sequence.forced,
            queue_s=sequence.prefill_started_s - sequence.arrived_s,
            prefill_s=sequence.decode_started_s - sequence.prefill_started_s,
            decode_s=now_s - sequence.decode_started_s,
        )

    def _fail(self, sequences: Iterable[Sequence], error: DecodeFailed | NibbleError) -> list[Failure]:
        """End the requests of ``sequences``, and forget what their slots hold: it may not be what is recorded."""
        sequences = list(sequences)
        requests = {sequence.request for sequence in sequences}
        for sequence in sequences:
            self._cache.forget(sequence.slot)
        if isinstance(error, DecodeFailed):
            error = InternalError(f"the step that held this request failed: {error}")
        record = ErrorRecord.of(error)
        for request in requests:
            self.cancel(request)
        return [Failure(request, record) for request in sorted(requests)]

    @property
    def stats(self) -> EngineStats:
        """The newest figures; one object, changed by each step."""
        stats = self._stats
        stats.running = self._scheduler.running
        stats.waiting = self._scheduler.waiting
        stats.kv_tokens = self._cache.held_tokens
        return stats
