"""The canonical request: what every dialect is parsed into, and the only request type below the routes."""

from __future__ import annotations

import msgspec

from engine.constraint.spec import ConstraintSpec
from engine.prompt import Prompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams


class Constraint(msgspec.Struct, frozen=True):
    """What every choice must be, and the field of the request that says so: the one to name when it is refused."""

    spec: ConstraintSpec
    param: str


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for text, whatever API it came through."""

    model: str
    prompts: tuple[Prompt, ...]
    n: int = 1
    max_tokens: int | None = None
    """Per choice; None means whatever the context leaves."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    prediction: str | None = None
    """What the client expects the answer to be; it makes the answer come sooner, and no other."""
    constraint: Constraint | None = None
    request_id: str = ""

    @property
    def choices(self) -> int:
        """How many answers there will be."""
        return len(self.prompts) * self.n

    def for_engine(self) -> EngineRequest:
        return EngineRequest(
            prompts=self.prompts,
            n=self.n,
            max_tokens=self.max_tokens,
            min_tokens=self.min_tokens,
            ignore_eos=self.ignore_eos,
            stop=self.stop,
            sampling=self.sampling,
            prediction=self.prediction,
            constraint=self.constraint.spec if self.constraint else None,
            constraint_param=self.constraint.param if self.constraint else "",
            request_id=self.request_id,
        )
