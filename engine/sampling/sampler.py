"""Choosing one sequence's next token. Owned by the worker's engine thread.

The order is llama.cpp's: bias, penalties, DRY; bans, which nothing may undo; the filters; temperature; draw.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.sampling.bad_words import BadWords
from engine.sampling.candidates import Candidates, Logits
from engine.sampling.chain import build_chain
from engine.sampling.dry import Dry
from engine.sampling.filters import dynamic_temperature
from engine.sampling.mirostat import Mirostat
from engine.sampling.params import COLDEST, SamplingParams
from engine.sampling.penalties import Penalties
from engine.sampling.scratch import Scratch
from engine.sampling.terms import BAN, Terms

_SEED_BITS = 2**64
_NO_TERMS = Terms()


class Limit(Protocol):
    """Which tokens may come next; for one of them that is told sooner than for all."""

    @property
    def can_be_asked(self) -> bool:
        """Whether ``allows`` tells what ``apply`` would."""

    def allows(self, token: int) -> bool: ...

    def apply(self, logits: Logits) -> None:
        """Set all others to -inf, in place."""


class Sampler:
    """Draws the tokens of one sequence: the same seed, logits and history give the same tokens.

    Drawing advances the random numbers (and mirostat), and what is drawn is accepted at once. So who checks
    drafted tokens calls ``sample`` for one position after another and stops behind the first token that differs
    from its draft: every token drawn is then one that is kept, and there is nothing to take back.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        prompt: npt.NDArray[np.int32],
        choice: int,
        end_tokens: npt.NDArray[np.int32],
        scratch: Scratch,
        terms: Terms = _NO_TERMS,
    ) -> None:
        self._params = params
        self._scratch = scratch
        self._end_tokens = end_tokens
        biases = {token: bias for token, bias in params.logit_bias.items() if bias > BAN}
        self._bias_ids = np.fromiter(biases.keys(), dtype=np.intp, count=len(biases))
        self._bias = np.fromiter(biases.values(), dtype=np.float32, count=len(biases))
        self._penalties = Penalties(params, prompt) if Penalties.are_needed(params) else None
        self._dry = Dry(params, prompt, terms.breakers) if Dry.is_needed(params) else None
        banned = params.logit_bias.keys() - biases.keys()
        banned |= {sequence[0] for sequence in terms.bad_sequences if len(sequence) == 1}
        self._banned = np.array(sorted(banned), dtype=np.intp)
        longer = [sequence for sequence in terms.bad_sequences if len(sequence) > 1]
        self._bad_words = BadWords(longer) if longer else None
        allowed = params.allowed_token_ids
        self._allowed = np.unique(np.array(allowed, dtype=np.intp)) if allowed else None
        self.is_greedy = params.is_greedy
        # A generator takes longer to make than a greedy answer needs it.
        self._random = (
            _no_chance if self.is_greedy else np.random.default_rng(_seed_of(params.seed, choice)).random
        )
        self._mirostat = (
            Mirostat(params.mirostat, params.mirostat_tau, params.mirostat_eta, scratch.weights.size)
            if params.mirostat and not params.is_cold
            else None
        )
        self._chain = [] if self.is_greedy or params.mirostat else build_chain(params, self._random)

    def sample(self, logits: Logits, *, may_end: bool, limit: Limit | None = None) -> int:
        """The next token from ``logits``, shape (v,), which are changed in place; it is accepted, too.

        ``may_end`` False bans every token that ends generation, and ``limit`` whatever it does not allow. Where
        everything is banned, the text can only end: then it is the first such token all the same.
        """
        self._edit(logits, may_end=may_end)
        # The likeliest of all tokens is, where it is allowed, the likeliest of those that are.
        asks = limit is not None and self.is_greedy and limit.can_be_asked
        if limit is not None and not asks:
            limit.apply(logits)
        token = self._draw(logits)
        if limit is not None and asks and not limit.allows(token):
            limit.apply(logits)
            token = self._draw(logits)
        self.accept(token)
        return token

    def accept(self, token: int) -> None:
        """Take ``token`` into the history that penalties look at. Only for tokens that were not drawn here."""
        if self._penalties:
            self._penalties.accept(token)
        if self._dry:
            self._dry.accept(token)
        if self._bad_words:
            self._bad_words.accept(token)

    def _edit(self, logits: Logits, *, may_end: bool) -> None:
        if self._bias_ids.size:
            logits[self._bias_ids] += self._bias
        if self._penalties:
            self._penalties.apply(logits)
        if self._dry:
            self._dry.apply(logits)
        if self._banned.size:
            logits[self._banned] = -np.inf
        if self._bad_words:
            self._bad_words.ban(logits)
        if not may_end:
            logits[self._end_tokens] = -np.inf

    def _draw(self, logits: Logits) -> int:
        if self._allowed is None:
            candidates = Candidates(logits, self._scratch)
        else:
            candidates = Candidates(logits[self._allowed], self._scratch, self._allowed)
        if self.is_greedy:
            token = candidates.best()
            return self._nothing_left(token) if logits[token] == -np.inf else token
        if candidates.peak == -np.inf:
            return self._nothing_left(candidates.best())
        for narrow in self._chain:
            narrow(candidates)
        temperature = self._temperature(candidates)
        if temperature < COLDEST:
            return candidates.best()
        candidates.heat(temperature)
        if self._mirostat:
            return self._mirostat.draw(candidates, self._random())
        return candidates.token(candidates.draw(self._random()))

    def _temperature(self, candidates: Candidates) -> float:
        params = self._params
        if not params.dynatemp_range or self._mirostat:
            return params.temperature
        return dynamic_temperature(
            candidates, params.temperature, params.dynatemp_range, params.dynatemp_exponent
        )

    def _nothing_left(self, token: int) -> int:
        return int(self._end_tokens[0]) if self._end_tokens.size else token


def _no_chance() -> float:
    raise AssertionError("greedy sampling draws no random numbers")


def _seed_of(seed: int | None, choice: int) -> list[int] | None:
    """Entropy for one choice: every choice of a seeded request draws its own, reproducible numbers."""
    return None if seed is None else [seed % _SEED_BITS, choice]
