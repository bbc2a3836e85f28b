"""Which sequences run in the next step. Pure: it decides, and computes nothing.

The rules: running streams decode first, in every step. Then prompts are read in the order in which they got their
slots, in chunks that fit the step's budget. A prompt whose head another sequence is just computing waits for that head
and copies it, instead of computing it twice; both are of one scope, as all that share a prefix are. All this holds
among sequences of one adapter set, and the sets take turns (engine.adapter_turns).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.adapter_turns import AdapterTurns
from engine.backend import Tokens
from engine.draft_model import DraftModel, Guess
from engine.draft_planner import DraftPlanner
from engine.drafter import NO_DRAFTS
from engine.prefix_cache import MINIMUM_SHARED, PrefixCache, Save
from engine.prefix_store import PrefixStore, StoredPrefix
from engine.sequence import Phase, Sequence
from engine.step_budget import StepBudget
from engine.waiting_queue import WaitingQueue

_LONGEST_RUN = 16
"""Tokens beside the newest that a running stream may compute within a decode."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Before the step: make ``slot`` hold the first ``shared`` tokens of ``source`` (of itself, if None)."""

    sequence: Sequence
    slot: int
    source: int | None
    shared: int
    cleared: tuple[int, ...] = ()
    """Idle slots to empty first, which makes room in the pool."""
    saved: tuple[Save, ...] = ()
    """What to save before that."""
    stored: StoredPrefix | None = None
    """What to restore into ``slot`` instead of a copy."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of ``sequence`` to compute, of its prompt mostly: ``count`` of them from position ``start``."""

    sequence: Sequence
    start: int
    count: int

    @property
    def tokens(self) -> Tokens:
        return self.sequence.tokens[self.start : self.start + self.count]

    @property
    def is_last(self) -> bool:
        """Whether all that is known of the sequence is computed with this chunk, so that a token can be sampled."""
        return self.start + self.count == self.sequence.length

    @property
    def rows(self) -> int:
        """Tokens of it that want logits: every one of a prompt that is scored, else the last before sampling."""
        return self.count if self.sequence.scores_prompt else int(self.is_last)


@dataclass(slots=True)
class Plan:
    """One step: transfers first, then one batch of decodes and chunks.

    A decode computes every token of its sequence that is not computed yet, and its drafts.
    """

    transfers: list[Transfer] = field(default_factory=list)
    decodes: list[Sequence] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    adapters: AdapterSet = NO_ADAPTERS
    """What all of the batch is computed with."""
    guesses: list[Guess] = field(default_factory=list)
    """What the draft model is to guess before the step."""
    begun: list[int] = field(default_factory=list)
    """The requests of the sequences that have got their slots for this step."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do, since all that could be placed is held back."""
        return not (self.transfers or self.decodes or self.chunks)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token."""
        return [*self.decodes, *(chunk.sequence for chunk in self.chunks if chunk.is_last)]

    @property
    def batch(self) -> list[tuple[Sequence, Chunk | None, int]]:
        """Who computes in this step, by a decode or a chunk, and gets how many rows of logits; in order of slots.

        Of slots with buffers of their own, attention is computed together only for neighbours, in rising order, and
        without scripts/joined_passes.h all else too, in passes that each read all weights: eight in falling order took
        twice as long. Of a chunk between two decodes, the first token goes with them, and so it parts nobody.
        """
        parts: list[tuple[Sequence, Chunk | None, int]] = [
            (sequence, None, 1 + len(sequence.drafts)) for sequence in self.decodes
        ]
        parts += [(chunk.sequence, chunk, chunk.rows) for chunk in self.chunks]
        return sorted(parts, key=_slot_of)

    @property
    def touched(self) -> set[Sequence]:
        """Every sequence whose slot this step changes, or was to change."""
        moved = (transfer.sequence for transfer in self.transfers)
        return {*self.decodes, *(chunk.sequence for chunk in self.chunks), *moved}

    @property
    def decode_tokens(self) -> int:
        """Tokens that the decodes compute, drafts not counted: one each, or more after forced ones."""
        return sum(sequence.pending for sequence in self.decodes)

    @property
    def changed_slots(self) -> set[int]:
        """Every slot that this step changes, or was to change."""
        cleared = {slot for transfer in self.transfers for slot in transfer.cleared}
        return cleared | {sequence.slot for sequence in self.touched}

    @property
    def prefill_tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks)


class Scheduler:
    """The queue and the running sequences. Owned by the worker's engine thread."""

    def __init__(
        self,
        cache: PrefixCache,
        budget: StepBudget,
        *,
        batch_tokens: int,
        output_rows: int,
        is_one_pass: bool,
        clock: Callable[[], float],
        store: PrefixStore | None = None,
        holds_back: Callable[[Sequence], bool] | None = None,
        draft_model: DraftModel | None = None,
    ) -> None:
        """``holds_back`` is asked for each sequence that could be placed: one it keeps comes back by ``resume``."""
        self._store = store
        self._holds_back = holds_back
        self._cache = cache
        self._budget = budget
        self._batch_tokens = batch_tokens
        self._output_rows = output_rows
        self._clock = clock
        self._is_one_pass = is_one_pass
        self._drafting = DraftPlanner(budget, draft_model, is_one_pass=is_one_pass)
        self._waiting = WaitingQueue()
        self._running: list[Sequence] = []
        self._turns = AdapterTurns(budget.target_s)
        # Runs of this many tokens fit into a step for every slot at once, with no one's stream kept waiting.
        self._longest_run = max(1, min(_LONGEST_RUN, batch_tokens // cache.slots))

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence behind those of its tenant and its priority."""
        self._waiting.add(sequence)

    def resume(self, sequence: Sequence) -> None:
        """Queue a sequence that was held back when it was its turn: it is its turn still."""
        self._waiting.put_back(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, in whatever phase it is; its slot is free for the next plan."""
        if sequence.phase is Phase.WAITING:
            self._waiting.remove(sequence)
        elif sequence.is_live:
            self._running.remove(sequence)
            self._turns.remove(sequence.adapters)
            self._cache.release(sequence.slot)
        sequence.phase = Phase.FINISHED
        sequence.leader = None

    def plan(self) -> Plan:
        """Decide the next step, and move sequences into the phases it puts them in."""
        plan = Plan()
        # Before admission, which may give a gone leader's slot away.
        self._follow_leaders(plan)
        self._admit(plan)
        plan.adapters = self._turns.choose()
        plan.decodes = [sequence for sequence in self._on_turn(plan) if sequence.phase is Phase.DECODE]
        self._fill_chunks(plan)
        if not plan.chunks:
            self._draft(plan)
        return plan

    def _on_turn(self, plan: Plan) -> list[Sequence]:
        """The running sequences that the step may compute."""
        if len(self._turns) < 2:
            return self._running
        return [sequence for sequence in self._running if sequence.adapters == plan.adapters]

    def _follow_leaders(self, plan: Plan) -> None:
        """Let go whoever waits for no reason any more: the leader has come far enough, or is gone."""
        for sequence in self._running:
            leader = sequence.leader
            if leader is None or (leader.is_live and leader.computed < self._sharable(sequence, leader)):
                continue
            # Whatever became of the leader: the cache knows best what can be had, another's work included.
            source, shared = self._cache.match(sequence.prompt, sequence.scope)
            shared = min(shared, sequence.prompt_length - 1)
            # Of several that followed one leader, the first goes on, and the others follow that one from here.
            sequence.leader = self._leader_for(sequence, held=shared)
            if sequence.leader is None and shared >= sequence.computed + MINIMUM_SHARED:
                self._cache.share(sequence.slot, source, shared)
                sequence.computed = sequence.cached = shared
                plan.transfers.append(Transfer(sequence, sequence.slot, source, shared))

    @staticmethod
    def _sharable(sequence: Sequence, leader: Sequence) -> int:
        """Tokens of ``sequence`` that ``leader`` will spare it: all but the last, which it computes for its logits."""
        return min(shared_prefix(sequence, leader), sequence.prompt_length - 1)

    def _admit(self, plan: Plan) -> None:
        # Whose turn it is waits for room, and nobody overtakes: a long request would else wait for ever.
        while self._waiting and self._cache.has_room(self._waiting.first().max_length):
            sequence = self._waiting.pop()
            may_share, scope = not sequence.scores_prompt, sequence.scope
            if may_share and self._holds_back is not None and self._holds_back(sequence):
                continue
            store = self._store if may_share else None
            stored = None if store is None else store.match(sequence.prompt, scope)
            placement = self._cache.place(
                sequence.prompt, scope, sequence.max_length, stored, may_share=may_share
            )
            if store is not None:
                store.placed(sequence.prompt, scope, placement.shared, placement.restored)
            sequence.slot = placement.slot
            sequence.computed = sequence.cached = placement.shared
            sequence.phase = Phase.PREFILL
            sequence.prefill_started_s = self._clock()
            plan.transfers.append(
                Transfer(
                    sequence,
                    placement.slot,
                    placement.source,
                    placement.shared,
                    placement.cleared,
                    placement.saved,
                    placement.stored,
                )
            )
            sequence.leader = self._leader_for(sequence, held=sequence.computed)
            self._running.append(sequence)
            self._turns.add(sequence.adapters)
            plan.begun.append(sequence.request)

    def _leader_for(self, sequence: Sequence, *, held: int) -> Sequence | None:
        """The running prefill, if any, that will hold more of this prompt than the ``held`` tokens in the cache.

        For a choice that begins with a scored prompt, it is the one that scores it.
        """
        if sequence.scores_prompt:
            return None
        if sequence.echo is not None and sequence.echo.is_pending:
            return next(other for other in self._running if other.echo is sequence.echo)
        if not self._cache.is_sharing:
            return None
        best, best_shared = None, held + MINIMUM_SHARED
        for other in self._running:
            if other is sequence or other.scope != sequence.scope:
                continue
            if other.phase is Phase.PREFILL and other.leader is None:
                shared = shared_prefix(sequence, other)
                if shared >= best_shared and shared > other.computed:
                    best, best_shared = other, shared
        return best

    def _fill_chunks(self, plan: Plan) -> None:
        prefills = [s for s in self._on_turn(plan) if s.phase is Phase.PREFILL and s.leader is None]
        if not prefills:
            return
        oldest = prefills[0]
        room = self._budget.prefill_tokens(
            decode_width=len(plan.decodes),
            oldest_pending=oldest.pending,
            oldest_read=oldest.computed - oldest.cached,
            sets=len(self._turns),
        )
        room = min(room, self._batch_tokens - plan.decode_tokens)
        # One row is kept for each slot, which may decode or come to its end.
        rows = most_rows = self._output_rows - self._cache.slots
        for sequence in prefills:
            if room <= 0:
                break
            if sequence.scores_prompt:
                if plan.chunks and min(room, rows) < equal_part(sequence.pending, most_rows):
                    continue  # the next step has room for more of it
                count = equal_part(sequence.pending, min(room, rows))
                rows -= count
            elif plan.chunks and sequence.pending > room:
                # llama.cpp computes chunks of different lengths in passes of their own, each of which reads all
                # weights: what does not come to its end here is cheaper in the next step.
                continue
            else:
                count = equal_part(sequence.pending, room)
            plan.chunks.append(Chunk(sequence, sequence.computed, count))
            room -= count

    def _draft(self, plan: Plan) -> None:
        """Let sequences guess ahead where that is likely to pay. Not beside a prefill: it has the step's time."""
        room = min(self._output_rows - len(plan.decodes), self._batch_tokens - plan.decode_tokens)
        plan.guesses = self._drafting.plan(plan.decodes, room)

    def retract(self, plan: Plan, unfilled: list[Sequence]) -> None:
        """Take in that the slots of ``unfilled`` are empty, since what they should hold could not be restored."""
        if not unfilled:
            return
        for sequence in unfilled:
            sequence.computed = sequence.cached = 0
            self._cache.forget(sequence.slot)
        plan.chunks.clear()
        self._fill_chunks(plan)

    def commit(self, plan: Plan, elapsed_s: float) -> None:
        """Take in that ``plan`` was computed in ``elapsed_s`` seconds."""
        width, decode_tokens = len(plan.decodes), plan.decode_tokens
        for sequence in plan.decodes:
            self._record(sequence, sequence.length)
        for chunk in plan.chunks:
            sequence = chunk.sequence
            self._record(sequence, chunk.start + chunk.count)
            if chunk.is_last:
                sequence.phase = Phase.DECODE
                sequence.decode_started_s = sequence.decode_started_s or self._clock()
        drafted = sum(len(sequence.drafts) for sequence in plan.decodes)
        self._budget.learn(
            decode_width=width,
            prefill_tokens=plan.prefill_tokens + decode_tokens - width + drafted,
            elapsed_s=elapsed_s,
        )
        self._turns.took(elapsed_s)
        if drafted and not plan.chunks and decode_tokens == width:
            drafting = None if self._is_one_pass else sum(len(each.drafts) > 0 for each in plan.decodes)
            self._budget.learn_check(
                decode_width=width, drafts=drafted, elapsed_s=elapsed_s, drafting=drafting
            )

    def take_run(self, sequence: Sequence) -> None:
        """Take in that ``sequence`` was given tokens without sampling. A long run is read like a prompt, in chunks."""
        if sequence.pending > self._longest_run:
            sequence.phase = Phase.PREFILL

    def keep_drafts(self, sequence: Sequence, accepted: int) -> None:
        """Take in that the first ``accepted`` drafts came true: they are tokens now, and computed already."""
        if sequence.drafts_of is not None:
            sequence.drafts_of.learn(len(sequence.drafts), accepted)
        if accepted and sequence.is_live:
            self._record(sequence, sequence.computed + accepted)
        sequence.drafts = NO_DRAFTS

    def _record(self, sequence: Sequence, end: int) -> None:
        """The tokens of ``sequence`` up to ``end`` are in its slot now."""
        start = sequence.computed
        self._cache.record(sequence.slot, sequence.tokens[start:end], start)
        sequence.computed = end


def _slot_of(part: tuple[Sequence, Chunk | None, int]) -> int:
    return part[0].slot


def equal_part(tokens: int, most: int) -> int:
    """The size of a chunk of ``tokens``, cut into equal ones of at most ``most``.

    A short last one would be computed by other kernels, whose rounding differs (tests/engine/native/test_context.py):
    where every token is scored, that would show.
    """
    parts = -(-tokens // most)
    return -(-tokens // parts)


def shared_prefix(one: Sequence, other: Sequence) -> int:
    """How many tokens from the start two prompts have in common."""
    length = min(one.prompt_length, other.prompt_length)
    differs = one.tokens[:length] != other.tokens[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length
