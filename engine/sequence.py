"""One answer in the making: waiting -> prefill -> decode -> finished. Owned by the worker's engine thread."""

from __future__ import annotations

from enum import Enum

import numpy as np

from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.answer_scores import AnswerScores
from engine.backend import Tokens
from engine.constraint.constraint import Constraint
from engine.detokenizer import Detokenizer
from engine.drafter import NO_DRAFTS, Drafter
from engine.echo import Echo
from engine.model_drafter import ModelDrafter
from engine.sampling.sampler import Sampler
from engine.stop_matcher import StopMatcher


class Phase(Enum):
    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"


class Sequence:
    """One choice of one request, from the queue to its last token.

    ``tokens`` holds the prompt and, behind it, what was generated; the first ``computed`` of them are in the
    KV cache of ``slot``. While decoding, the newest token at least is not computed yet.
    """

    __slots__ = (
        "accepted",
        "adapters",
        "arrived_s",
        "cached",
        "choice",
        "computed",
        "constraint",
        "decode_started_s",
        "detokenizer",
        "drafted",
        "drafter",
        "drafts",
        "drafts_of",
        "echo",
        "forced",
        "ignores_end",
        "is_first_choice",
        "leader",
        "length",
        "max_length",
        "min_length",
        "model_drafter",
        "opening",
        "phase",
        "prefill_started_s",
        "priority",
        "prompt_length",
        "request",
        "sampled_s",
        "sampler",
        "scope",
        "scores",
        "slot",
        "stop",
        "tenant",
        "tokens",
        "told",
    )

    def __init__(
        self,
        *,
        request: int,
        choice: int,
        prompt: Tokens,
        max_tokens: int,
        min_tokens: int = 0,
        ignores_end: bool = False,
        sampler: Sampler,
        detokenizer: Detokenizer,
        stop: StopMatcher,
        drafter: Drafter | None = None,
        constraint: Constraint | None = None,
        scores: AnswerScores | None = None,
        echo: Echo | None = None,
        is_first_choice: bool = True,
        tenant: str = "",
        priority: int = 0,
        adapters: AdapterSet = NO_ADAPTERS,
        opening: str = "",
        arrived_s: float = 0.0,
    ) -> None:
        self.request = request
        self.choice = choice
        self.is_first_choice = is_first_choice
        self.tenant = tenant
        self.priority = priority
        self.adapters = adapters
        self.scope = f"{adapters.key}|{tenant}"
        """Prefixes are shared within a scope alone: what other adapters computed is wrong here."""
        self.opening = opening
        """What the chat template wrote last."""
        self.prompt_length = len(prompt)
        self.max_length = self.prompt_length + max_tokens
        self.min_length = self.prompt_length + min_tokens
        self.ignores_end = ignores_end
        self.tokens = np.empty(self.max_length, dtype=np.int32)
        self.tokens[: self.prompt_length] = prompt
        self.length = self.prompt_length
        self.sampler = sampler
        self.detokenizer = detokenizer
        self.stop = stop
        self.phase = Phase.WAITING
        self.slot = -1
        self.computed = 0
        self.cached = 0
        self.told = 0
        """Generated tokens that a piece has told of."""
        self.drafter = drafter
        self.constraint = constraint
        self.scores = scores
        """Log-probabilities, for an answer that shows them or is ranked by them."""
        self.echo = echo
        """The prompt, until an answer that begins with it has told it."""
        self.drafted = self.accepted = self.forced = 0
        self.drafts = NO_DRAFTS
        """Guesses of the tokens to come, for the step that is being computed."""
        self.model_drafter: ModelDrafter | None = None
        self.drafts_of: Drafter | ModelDrafter | None = drafter
        """Whoever the drafts are of, and is to learn whether they come true."""
        self.leader: Sequence | None = None
        self.arrived_s = arrived_s
        self.prefill_started_s = 0.0
        self.decode_started_s = 0.0
        self.sampled_s = 0.0
        """When its newest token was computed."""

    @property
    def prompt(self) -> Tokens:
        return self.tokens[: self.prompt_length]

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return self.length - self.prompt_length

    @property
    def pending(self) -> int:
        """Tokens that are known and not computed yet: of the prompt, or the newest, or a run of forced ones."""
        return self.length - self.computed

    @property
    def may_end(self) -> bool:
        """Whether the next token may be one that ends generation."""
        return self.length >= self.min_length and not self.ignores_end

    @property
    def scores_prompt(self) -> bool:
        """Whether every token that is computed needs logits, and so none may come from the cache."""
        return self.is_first_choice and self.echo is not None and self.echo.is_scored

    @property
    def is_live(self) -> bool:
        return self.phase is not Phase.FINISHED

    def start_mask(self) -> None:
        """Have what the constraint allows computed while the model computes, if it is likely to be wanted."""
        constraint = self.constraint
        if constraint is not None and not (self.sampler.is_greedy and constraint.is_likely_to_agree):
            constraint.start_mask()

    def append(self, token: int) -> None:
        """Add a generated token. The caller keeps ``length`` below ``max_length``."""
        self.tokens[self.length] = token
        self.length += 1
