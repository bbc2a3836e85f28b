"""What the engine is asked for: one request, one or more prompts, ``n`` choices of each."""

from __future__ import annotations

import msgspec

from engine.constraint.spec import ConstraintSpec
from engine.prompt import Prompt
from engine.sampling.params import SamplingParams


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the engine's terms. Choice ``p * n + j`` is the j-th answer to prompt ``p``."""

    prompts: tuple[Prompt, ...]
    n: int = 1
    max_tokens: int | None = None
    """Per choice; None means whatever the context leaves."""
    min_tokens: int = 0
    """No end-of-generation token and no stop string before this many tokens."""
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    prediction: str | None = None
    """What the client expects the answer to be: drafted where it holds, without any effect on the answer."""
    constraint: ConstraintSpec | None = None
    """What every choice must be; an answer that is not cut by its length is that."""
    constraint_param: str = ""
    """The field of the client's request that holds the constraint, for refusals."""
    tenant: str = ""
    """Who asks, as far as the server tells people apart; tenants take turns in the queue."""
    request_id: str = ""
    """For the log and for quarantine, never for routing."""
