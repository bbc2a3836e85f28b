"""Which running sequences guess ahead in a step, how far, and by which means. Pure: it computes no guess of a model.

Looking up comes first, since it costs nothing. Where it finds nothing the draft model is asked, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.draft_model import DraftModel, Guess
from engine.drafter import NO_DRAFTS
from engine.model_drafter import ModelDrafter
from engine.sequence import Sequence
from engine.step_budget import StepBudget
from engine.trust import Trust

_FIRST_TRUST = 0.7
_MEMORY_TOKENS = 32.0
_DEAREST = 0.7
"""What checking a draft may cost at most, as a share of a decode: both are only estimated."""
_CLEARLY = 1.1
"""How much faster a step of two passes must be than one without drafts: both are only estimated."""
_PROBE_COST = 0.5
"""What checking a draft is taken to cost where it is checked to find that out: drafts of a few tokens."""
_LEAST_LEFT = 64
"""Tokens that an answer is thought to have left at the least; otherwise it goes on for as long as it has."""


@dataclass(frozen=True, slots=True)
class _Costs:
    """Of a token that is guessed and checked, and of one that is only read; shares of decoding one plainly."""

    guess: float
    read: float


class DraftPlanner:
    """Part of the scheduler. Owned by the worker's engine thread."""

    def __init__(
        self, budget: StepBudget, model: DraftModel | None = None, *, is_one_pass: bool = False
    ) -> None:
        """Without ``is_one_pass`` drafts take passes of their own, one for each length; see ``engine.backend``."""
        self._budget = budget
        self._is_one_pass = is_one_pass
        self._model = model
        self._common = Trust(_FIRST_TRUST, _MEMORY_TOKENS)
        """In the draft model, over all sequences."""

    def plan(self, decodes: list[Sequence], room: int) -> list[Guess]:
        """Draft for ``decodes`` by looking up, at most ``room`` tokens. Returns what the draft model is to guess."""
        if not decodes:
            return []
        token_cost = self._budget.draft_cost(len(decodes))
        if token_cost > _DEAREST:
            # Even drafts that all come true would gain next to nothing, and end answers out of step.
            token_cost = 1.0
        probes = self._budget.is_probe_due(len(decodes))
        if probes:
            token_cost = min(token_cost, _PROBE_COST)
        room = min(room, self._budget.draft_tokens(len(decodes)))
        undrafted: list[Sequence] = []
        left = room
        for sequence in decodes:
            if sequence.drafter is None or left <= 0:
                continue
            sequence.drafts = sequence.drafter.draft(
                sequence.tokens[: sequence.length],
                sequence.prompt_length,
                most=min(left, sequence.max_length - sequence.length - 1),
                token_cost=token_cost,
            )
            sequence.drafts_of = sequence.drafter
            if not len(sequence.drafts):
                undrafted.append(sequence)
            elif self._is_one_pass:
                left -= len(sequence.drafts)
        if not self._is_one_pass:
            self._level(decodes, room, must=probes)
        drafts = sum(len(sequence.drafts) for sequence in decodes)
        if probes and drafts:
            self._budget.take_probe(len(decodes))
        room -= drafts
        if self._model is None or not self._model.is_working or room < len(undrafted):
            return []
        return self._guesses(self._model, undrafted, room, len(decodes), token_cost)

    def _level(self, decodes: list[Sequence], room: int, *, must: bool) -> None:
        """Make drafts equally long, and drop those of sequences without which more tokens a second are expected.

        With ``must`` some are left where there are any, even if the step is thought to be faster without.

        With a KV buffer for each sequence, llama.cpp itself computes what is longer in passes of its own, one for each
        length, of which each reads all weights (llama-batch.cpp, split_equal). So there are two lengths at most, and a
        few drafts in a wide step cost more than they bring.
        """
        drafting = [sequence for sequence in decodes if len(sequence.drafts)]
        drafting.sort(key=lambda sequence: len(sequence.drafts), reverse=True)
        plain_s = self._budget.decode_s(len(decodes))
        best = _CLEARLY * len(decodes) / plain_s if plain_s and not must else 0.0
        chosen = level = 0
        for count in range(1, len(drafting) + 1):
            length = len(drafting[count - 1].drafts)
            if count < len(drafting) and len(drafting[count].drafts) == length and count * length < room:
                continue  # one more is no longer, and there is room for it
            length = min(length, room // count)
            rate = self._rate(decodes, drafting[:count], length)
            if rate > best:
                best, chosen, level = rate, count, length
        for number, sequence in enumerate(drafting):
            sequence.drafts = sequence.drafts[:level] if number < chosen else NO_DRAFTS

    def _rate(self, decodes: list[Sequence], drafting: list[Sequence], length: int) -> float:
        """Tokens a second that are expected of a step in which each of ``drafting`` checks ``length`` tokens."""
        drafts = len(drafting) * length
        if not drafts:
            return 0.0
        hoped = sum(sequence.drafter.hope(length) for sequence in drafting if sequence.drafter)
        elapsed_s = self._budget.drafting_s(decode_width=len(decodes), drafting=len(drafting), drafts=drafts)
        return (len(decodes) + hoped) / elapsed_s if elapsed_s else drafts

    def _guesses(
        self, model: DraftModel, sequences: list[Sequence], room: int, width: int, check_cost: float
    ) -> list[Guess]:
        """How many tokens to guess for whom of ``sequences``, in a step of ``width``; ``room`` of them together."""
        plain_s = self._budget.decode_s(width) / width
        asking = sequences if plain_s > 0.0 else []
        guesses: list[Guess] = []
        # What a guess costs depends on how many are made at a time: whoever drops out makes it dearer for the rest.
        while asking:
            costs = _Costs(
                guess=check_cost + model.guess_s(len(asking)) / len(asking) / plain_s,
                read=model.token_s / plain_s,
            )
            most = room // len(asking)
            guesses = [guess for sequence in asking if (guess := self._guess(model, sequence, most, costs))]
            if len(guesses) == len(asking):
                break
            asking = [guess.sequence for guess in guesses]
        for sequence in set(sequences).difference(asking):
            self._drafter(sequence).rest()
        return guesses

    def _guess(self, model: DraftModel, sequence: Sequence, most: int, costs: _Costs) -> Guess | None:
        drafter = self._drafter(sequence)
        count = drafter.length(
            most=min(most, min(sequence.max_length - 1, model.most_tokens) - sequence.length),
            token_cost=costs.guess,
            # The newest token is read for the first guess, which is counted.
            lag_cost=(model.lag(sequence) - 1) * costs.read,
            left=min(sequence.max_length - sequence.length, max(_LEAST_LEFT, sequence.generated)),
        )
        sequence.drafts_of = drafter
        return Guess(sequence, count) if count else None

    def _drafter(self, sequence: Sequence) -> ModelDrafter:
        if sequence.model_drafter is None:
            sequence.model_drafter = ModelDrafter(self._common)
        return sequence.model_drafter
