"""The engine loop of one model: schedule, run, tell. Everything here happens on the worker's engine thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from engine.adapter_rack import AdapterOrder, AdapterRack
from engine.backend import Backend, DecodeFailed, Logits, Tokens
from engine.config import EngineStats
from engine.constraint.constraint import Constraint
from engine.disk.tier import DiskTier, Fetched
from engine.draft_model import DraftModel
from engine.errors import ErrorRecord, InternalError, InvalidRequest, ModelUnavailable, NibbleError
from engine.events import Finish, FinishReason, Piece
from engine.executor import Executor
from engine.frames import Failure, StepReport
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS
from engine.prefix_cache import PrefixCache
from engine.prefix_fetcher import PrefixFetcher
from engine.prefix_store import PrefixStore
from engine.prefix_worth import PrefixWorth
from engine.scheduler import Chunk, Plan, Scheduler
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
        disk: DiskTier | None = None,
        draft_model: DraftModel | None = None,
        tell_begun: Callable[[list[int]], None] = lambda requests: None,
    ) -> None:
        """``disk`` needs prefix memory, through which everything passes on its way there and back.

        ``tell_begun`` is told of requests that get their first slots, before the step that may end the process.
        """
        # Memory that cannot be cut holds no prefixes.
        keeps_prefixes = prefix_memory_bytes > 0 and backend.shares_prefixes
        budget = budget or StepBudget(target_s=0.25, maximum=backend.batch_tokens)
        store = PrefixStore(prefix_memory_bytes, disk, PrefixWorth(budget)) if keeps_prefixes else None
        self._end_tokens = frozenset(end_tokens.tolist())
        self._clock = clock
        self._cache = PrefixCache(
            backend.slots,
            backend.slot_tokens,
            is_sharing=backend.shares_prefixes,
            pool_tokens=backend.pool_tokens,
            is_saving=store is not None,
        )
        self._fetcher = (
            None
            if disk is None or store is None
            else PrefixFetcher(disk, store, self._cache, slot_tokens=backend.slot_tokens)
        )
        self._scheduler = Scheduler(
            self._cache,
            budget,
            batch_tokens=backend.batch_tokens,
            output_rows=backend.output_rows,
            is_one_pass=backend.is_one_pass,
            clock=clock,
            store=store,
            holds_back=self._fetcher.hold if self._fetcher else None,
            draft_model=draft_model,
        )
        self._executor = Executor(backend, store, clock)
        self._adapters = AdapterRack(backend, self._executor, self._cache)
        self._draft_model = draft_model
        self._store = store
        self._disk = disk
        self._tell_begun = tell_begun
        self._requests: dict[int, list[Sequence]] = {}
        self._lengths: list[int] = []
        """Characters that each token of the piece in the making brought."""
        self._stats = EngineStats(
            kv_capacity_tokens=backend.pool_tokens or backend.slots * backend.slot_tokens
        )

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def waiting(self) -> int:
        """Sequences that have no slot yet."""
        return self._scheduler.waiting + (self._fetcher.waiting if self._fetcher else 0)

    def add(self, sequences: list[Sequence]) -> list[Failure]:
        """Queue the choices of one request. Returns why that cannot be, if so."""
        if self._adapters.lacks(sequences):
            gone = ModelUnavailable("an adapter of this request was removed meanwhile", retry_after_s=1.0)
            return [Failure(sequences[0].request, ErrorRecord.of(gone))]
        if sequences:
            self._requests[sequences[0].request] = sequences
            for sequence in sequences:
                sequence.arrived_s = self._clock()
                self._scheduler.add(sequence)
        return []

    def adapt(self, order: AdapterOrder) -> list[Failure]:
        """Load an adapter, or let it go. Returns what failed over it, which is hardly ever anything."""
        lost = self._adapters.obey(order)
        failures: list[Failure] = []
        if lost is not None:
            self._executor.forget([lost])
            holders = [sequence for sequence in self._sequences if sequence.is_live and sequence.slot == lost]
            failures = self._fail(holders, DecodeFailed("its place in the cache was lost"))
        # Afterwards: whoever has just failed may have been the last to use one that is to go.
        self.free_adapters()
        return failures

    def free_adapters(self) -> None:
        """Give back the memory of adapters that are to go and that nothing runs with any more."""
        self._adapters.free_unused(self._sequences)

    @property
    def _sequences(self) -> Iterator[Sequence]:
        return itertools.chain.from_iterable(self._requests.values())

    def take(self, fetched: Fetched) -> None:
        """Queue what waited for ``fetched`` to be read from disk."""
        assert self._fetcher is not None, "it has asked for this"
        for sequence in reversed(self._fetcher.take(fetched)):
            self._scheduler.resume(sequence)

    def save_prefixes(self, limit_s: float) -> None:
        """End everything, and write to disk what is worth it, within about ``limit_s`` seconds. Ends this core."""
        if self._disk is None or self._store is None:
            return
        for request in list(self._requests):
            self.cancel(request)
        slots = (
            (save.tokens, save.scope, partial(self._executor.state, save.slot))
            for save in self._cache.worth_keeping()
        )
        self._disk.finish(slots, self._store.newest_first, limit_s)

    def cancel(self, request: int) -> None:
        """Drop whatever is left of ``request``; its slots are free for the next step. Unknown ids are finished ones."""
        for sequence in self._requests.pop(request, ()):
            if sequence.is_live and not (self._fetcher and self._fetcher.withdraw(sequence)):
                self._scheduler.finish(sequence)

    def step(self) -> StepReport:
        """Schedule, run, tell. Owes an answer to every sequence in the plan, also when the step fails."""
        plan = self._scheduler.plan()
        if plan.is_empty:
            return StepReport(pieces=[], failures=[], stats=self.stats)
        if plan.begun:
            self._tell_begun(list(dict.fromkeys(plan.begun)))
        for sequence in plan.sampled:
            sequence.start_mask()
        if self._draft_model is not None and plan.guesses:
            self._draft_model.guess(plan.guesses)
        started_s = self._clock()
        try:
            self._scheduler.retract(plan, self._executor.transfer(plan))
            logits = self._executor.run(plan)
        except DecodeFailed as error:
            self._executor.forget(plan.changed_slots)
            return StepReport(pieces=[], failures=self._fail(plan.touched, error), stats=self.stats)
        now_s = self._clock()
        self._scheduler.commit(plan, now_s - started_s)
        self._observe(plan, now_s, now_s - started_s)
        pieces: list[Piece] = []
        failures: list[Failure] = []
        row = 0
        for sequence, chunk, rows in plan.batch:
            if rows == 0:
                continue
            if not sequence.is_live:
                # One that failed in this very step has taken the other choices of its request along.
                sequence.drafted += len(sequence.drafts)
            else:
                try:
                    piece = self._take(sequence, chunk, logits[row : row + rows])
                except (DecodeFailed, NibbleError) as error:
                    self._executor.forget([sequence.slot])
                    failures += self._fail([sequence], error)
                else:
                    if piece is not None:
                        pieces.append(piece)
            row += rows
        return StepReport(pieces=pieces, failures=failures, stats=self.stats)

    def _observe(self, plan: Plan, now_s: float, elapsed_s: float) -> None:
        """Count a step that is computed: once each for the step and for every answer it brings on, never by token."""
        stats = self._stats
        stats.steps_total += 1
        stats.batch_sizes_total.add(len(plan.decodes) + len(plan.chunks), BATCH_BOUNDS)
        stats.step_seconds_total.add(elapsed_s, LATENCY_BOUNDS)
        for sequence in plan.sampled:
            if sequence.generated:
                stats.token_gaps_total.add(now_s - sequence.sampled_s, LATENCY_BOUNDS)
            sequence.sampled_s = now_s

    def _take(self, sequence: Sequence, chunk: Chunk | None, logits: Logits) -> Piece | None:
        """Take in the logits of a decode, or of a ``chunk`` of a prompt, of which the last alone leads to a token."""
        if chunk is None:
            return self._advance(sequence, logits)
        if sequence.echo is not None and sequence.scores_prompt:
            sequence.echo.score(logits, chunk.start)
        if not chunk.is_last:
            return None
        if sequence.max_length == sequence.prompt_length:
            self._count_prompt(sequence)
            return self._piece(sequence, "", "length")
        return self._advance(sequence, logits[-1:])

    def _advance(self, sequence: Sequence, logits: Logits) -> Piece | None:
        """Sample behind the newest token, and behind each draft for as long as the drafts come true.

        ``logits`` has shape (1 + drafts, vocabulary). Drawing every token as if there were no drafts, and keeping
        a draft only where it is what was drawn, leaves the distribution as it is.
        """
        drafts, accepted, scores = sequence.drafts, 0, sequence.scores
        text = ""
        self._lengths.clear()
        reason: FinishReason | None = None
        for row in range(len(logits)):
            if scores is not None:
                scores.keep(logits[row])
            token = sequence.sampler.sample(logits[row], may_end=sequence.may_end, limit=sequence.constraint)
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
        return self._piece(sequence, text, reason)

    def _piece(self, sequence: Sequence, text: str, reason: FinishReason | None) -> Piece | None:
        """What a step brought for ``sequence``, if anything that can be told. With a ``reason``, it has ended."""
        if reason is None and not text and sequence.echo is None:
            return None
        untold, sequence.told = sequence.generated - sequence.told, sequence.generated
        finish = None if reason is None else self._finish(sequence, reason)
        lengths = () if untold <= 1 else self._lengths_of(text, untold)
        logprobs = None
        if sequence.scores is not None:
            is_cut = sequence.stop.is_matched
            logprobs = sequence.scores.take(len(text), is_last=reason is not None, is_cut=is_cut)
        echo, sequence.echo = None if sequence.echo is None else sequence.echo.told(), None
        return Piece(sequence.request, sequence.choice, text, untold, finish, logprobs, lengths, echo)

    def _lengths_of(self, text: str, tokens: int) -> tuple[int, ...]:
        """``text`` shared out among its tokens: none to those before this step, what was held back to the last."""
        lengths = [0] * (tokens - len(self._lengths)) + self._lengths
        lengths[-1] += len(text) - sum(lengths)
        return tuple(lengths)

    def _read(self, sequence: Sequence, token: int) -> tuple[str, FinishReason | None]:
        """What ``token``, the newest of ``sequence``, means to the client: text, an end, both or nothing yet."""
        if token in self._end_tokens:
            self._lengths.append(0)
            if sequence.scores is not None:
                sequence.scores.add_end(token)
            return sequence.stop.flush(), "stop"
        text = sequence.detokenizer.add(token)
        if sequence.scores is not None:
            sequence.scores.add(token, len(text))
        if sequence.length > sequence.min_length:
            text = sequence.stop.add(text)
        self._lengths.append(len(text))
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
        # What is forced has no logits: where each token is to be scored, each is drawn, under the mask.
        if reason is None and sequence.scores is None and (forced := constraint.forced()):
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
        if sequence.generated == 1:
            self._count_prompt(sequence)

    def _count_prompt(self, sequence: Sequence) -> None:
        if not sequence.scores_prompt:
            self._stats.prefix_queried_tokens_total += sequence.prompt_length
            self._stats.prefix_hit_tokens_total += sequence.cached
        if sequence.is_first_choice:
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
            mean_logprob=None if sequence.scores is None else sequence.scores.mean,
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
        stats.waiting = self.waiting
        stats.kv_tokens = self._cache.running_tokens
        if self._disk is not None:
            figures = self._disk.figures
            stats.disk_prefixes_read_total = figures.read_prefixes
            stats.disk_read_bytes_total = figures.read_bytes
            stats.disk_written_bytes_total = figures.written_bytes
        return stats
