"""What the engine is asked for: one request, one or more prompts, ``n`` choices of each."""

from __future__ import annotations

import msgspec

from engine.adapter import AdapterUse
from engine.constraint.spec import ConstraintSpec
from engine.prompt import Prompt
from engine.sampling.params import SamplingParams


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the engine's terms. Choice ``p * n + j`` is the j-th answer to prompt ``p``."""

    prompts: tuple[Prompt, ...]
    n: int = 1
    max_tokens: int | None = None
    """Per choice; None means whatever the context leaves, 0 (beside ``echo`` alone) no answer but the prompt."""
    max_tokens_param: str = "max_tokens"
    """The field of the client's request that holds it, for refusals."""
    min_tokens: int = 0
    """No end-of-generation token and no stop string before this many tokens."""
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    logprobs: int | None = None
    """Tell the log-probability of each token, and so many of the likeliest tokens beside it."""
    echo: bool = False
    """Begin each answer with its prompt; with ``logprobs``, its tokens are scored too."""
    is_ranked: bool = False
    """Tell the mean log-probability of each choice at its end."""
    prediction: str | None = None
    """What the client expects the answer to be: drafted where it holds, without any effect on the answer."""
    constraint: ConstraintSpec | None = None
    """What every choice must be; an answer that is not cut by its length is that."""
    constraint_param: str = ""
    """The field of the client's request that holds the constraint, for refusals."""
    shown_controls: tuple[str, ...] = ()
    """Texts of control tokens that stay in the answer's text, because what reads it looks for them."""
    tenant: str = ""
    """Who asks, as far as the server tells people apart; tenants take turns in the queue."""
    priority: int = 0
    """Whose turn comes first; a lower number is more urgent."""
    queue_timeout_s: float | None = None
    """Give the request up when it was not begun with by then; None waits for ever."""
    adapters: tuple[AdapterUse, ...] = ()
    """The LoRA adapters to compute this with; none is the model alone."""
    request_id: str = ""
    """For the log, never for routing."""
