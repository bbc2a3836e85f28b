"""Loading the draft model: what is asked of it, and what it is given."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from engine.attention_choice import AttentionChoice
from engine.cache_type import check_cache_type
from engine.config import EngineConfig
from engine.draft_model import DraftModel
from engine.errors import InsufficientMemory, ModelLoadFailed
from engine.memory_plan import MemoryPlan
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.step_budget import StepBudget
from engine.warm_up import warm_up

_GAP_SHARE = 0.5
"""Of the longest gap in a stream, what the draft model may spend on reading what it has missed."""


class DraftLoader:
    """Loads the weights first, whose cache the memory plan must know of, and then makes the context."""

    def __init__(self, config: EngineConfig, path: str, target: NativeModel) -> None:
        """Raises ModelLoadFailed for a file that cannot be served, or that cannot guess for ``target``."""
        self._config = config
        if target.is_recurrent:
            raise ModelLoadFailed(
                f"no draft model can guess for {config.model_id}: its memory is a state, which no wrong guess can be "
                "taken back from; serve it without `draft_model`"
            )
        with self._named():
            self.model = NativeModel(path, config.gpu_layers)
            self._check(target)

    def _check(self, target: NativeModel) -> None:
        if self.model.is_recurrent or not self.model.is_causal:
            raise ModelLoadFailed(
                "its memory cannot be cut, so that it cannot take back a wrong guess; choose a transformer that "
                "generates text"
            )
        if difference := target.vocabulary.difference(self.model.vocabulary):
            raise ModelLoadFailed(
                f"its vocabulary is not that of {self._config.model_id}: {difference}; choose a smaller model of the "
                "same family, or serve without `draft_model`"
            )
        key_width, value_width = self.model.head_widths
        config = self._config
        check_cache_type(
            config.cache_type, config.flash_attention, key_width=key_width, value_width=value_width
        )

    @property
    def kv_bytes_per_token(self) -> int:
        return self.model.kv_bytes_per_token(self._config.cache_type)

    def start(self, plan: MemoryPlan, attention: AttentionChoice, *, threads: int) -> DraftModel:
        """Give it as many slots as the target has, in the same layout and with the same attention.

        Raises InsufficientMemory too.
        """
        config = self._config
        # Past what it was trained on, it guesses nothing.
        most_tokens = min(plan.context, self.model.context_trained or plan.context)
        with self._named():
            context = NativeContext(
                self.model,
                slots=plan.parallel,
                slot_tokens=most_tokens,
                pool_tokens=plan.kv_tokens if plan.layout == "unified" else None,
                batch_tokens=max(attention.batch_tokens, plan.parallel),
                threads=threads,
                cache_type=config.cache_type,
                flash_attention=attention.flash,
            )
            budget = StepBudget(
                target_s=_GAP_SHARE * config.step_target_s,
                steady=context.batch_tokens,
                maximum=context.batch_tokens,
            )
            warm_up(context, budget)
        return DraftModel(context, budget, clock=time.monotonic, most_tokens=most_tokens)

    @contextmanager
    def _named(self) -> Generator[None]:
        """Say of an error that the draft model has it."""
        try:
            yield
        except (ModelLoadFailed, InsufficientMemory) as error:
            raise type(error)(f"the draft model cannot be used: {error.message}") from error
