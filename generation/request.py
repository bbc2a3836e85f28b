"""The canonical request: what every dialect is parsed into, and the only request type below the routes."""

from __future__ import annotations

import msgspec

from engine.adapter import AdapterUse
from engine.constraint.spec import ConstraintSpec
from engine.prompt import ChatPrompt, Prompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from generation.tools.offered_tool import OfferedTool


class Constraint(msgspec.Struct, frozen=True):
    """What every choice must be, and the field of the request that says so: the one to name when it is refused."""

    spec: ConstraintSpec
    param: str


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools the model may call in its answers, and whether it must."""

    tools: tuple[OfferedTool, ...]
    is_required: bool = False
    is_parallel: bool = True
    """Whether one answer may hold several calls."""
    is_legacy: bool = False
    """Whether calls are told in the older shape, ``function_call``."""
    text_schema: tuple[str, str] | None = None
    """The JSON schema of an answer that calls nothing, and the field of the request that holds it."""


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for text, whatever API it came through."""

    model: str
    prompts: tuple[Prompt, ...]
    n: int = 1
    best_of: int | None = None
    """Generate so many answers to each prompt, and tell the ``n`` that are likeliest per token."""
    max_tokens: int | None = None
    """Per choice; None means whatever the context leaves."""
    max_tokens_param: str = "max_tokens"
    """The field that says so, for refusals."""
    min_tokens: int = 0
    ignore_eos: bool = False
    echo: bool = False
    """Begin each answer with its prompt."""
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    logprobs: int | None = None
    """Tell how likely each token was, and so many of the likeliest tokens beside it."""
    prediction: str | None = None
    """What the client expects the answer to be; it makes the answer come sooner, and no other."""
    constraint: Constraint | None = None
    tools: ToolUse | None = None
    adapters: tuple[AdapterUse, ...] = ()
    """LoRA adapters that the model is to answer with."""
    request_id: str = ""
    tenant: str = ""
    """Who asks, as far as the server tells people apart: tenants take turns, and share no cached prompt."""
    priority: int | None = None
    """Whose turn comes first, a lower number being more urgent; None is left to whoever knows the tenant."""
    queue_timeout_s: float | None = None
    """Give the request up when it was not begun with by then."""

    @property
    def choices(self) -> int:
        """How many answers are generated, those included that turn out not to be among the best."""
        return len(self.prompts) * self.candidates

    @property
    def candidates(self) -> int:
        """How many answers to each prompt are generated."""
        return self.n if self.best_of is None else self.best_of

    @property
    def is_ranked(self) -> bool:
        """Whether there are more answers than are told."""
        return self.candidates > self.n

    @property
    def is_chat(self) -> bool:
        """Whether a chat template makes the prompt, and the answer is a message."""
        return any(isinstance(prompt, ChatPrompt) for prompt in self.prompts)

    def for_engine(self, *, shown_controls: tuple[str, ...] = ()) -> EngineRequest:
        return EngineRequest(
            prompts=self.prompts,
            n=self.candidates,
            is_ranked=self.is_ranked,
            max_tokens=self.max_tokens,
            max_tokens_param=self.max_tokens_param,
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            echo=self.echo,
            stop=self.stop,
            sampling=self.sampling,
            logprobs=self.logprobs,
            prediction=self.prediction,
            constraint=self.constraint.spec if self.constraint else None,
            constraint_param=self.constraint.param if self.constraint else "",
            shown_controls=shown_controls,
            adapters=self.adapters,
            request_id=self.request_id,
            tenant=self.tenant,
            priority=self.priority or 0,
            queue_timeout_s=self.queue_timeout_s,
        )
