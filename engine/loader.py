"""Loading a model in its worker: weights, context, template, and one decoded token as the proof."""

from __future__ import annotations

import time
from dataclasses import dataclass

import jinja2
import numpy as np

from engine import memory
from engine.backend import Backend, DecodeFailed
from engine.cache_type import check_cache_type
from engine.chat_template import ChatTemplate
from engine.config import EngineConfig, ModelFacts
from engine.errors import ModelLoadFailed
from engine.memory_plan import MemoryPlan, plan_memory, plan_prefix_memory
from engine.native import library
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.prompt_reader import PromptReader, Vocabulary
from engine.step_budget import StepBudget
from engine.threads import ThreadChoice, choose_threads

_BATCH_TOKENS = 512
_WARM_UP_STEPS = (1, 1, 32, 1)
"""Tokens of each step: the first reads the weights, then decoding and prefill are timed."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that has decoded a token."""

    backend: Backend
    vocabulary: Vocabulary
    reader: PromptReader
    facts: ModelFacts
    budget: StepBudget
    """Knows already what a step takes, so that the first long prompt keeps no stream waiting."""
    prefix_memory_bytes: int


def load(config: EngineConfig) -> LoadedModel:
    """Load ``config.model_path``. Raises ModelLoadFailed and InsufficientMemory, which name the mend."""
    started_s = time.monotonic()
    threads = choose_threads(config.threads)
    model = NativeModel(config.model_path, config.gpu_layers)
    key_width, value_width = model.head_widths
    check_cache_type(config.cache_type, config.flash_attention, key_width=key_width, value_width=value_width)
    plan = plan_memory(
        config,
        context_trained=model.context_trained,
        kv_bytes_per_token=model.kv_bytes_per_token(config.cache_type),
        available=memory.available_or_guessed_bytes(),
        can_share_pool=not model.is_recurrent,
    )
    context = NativeContext(
        model,
        slots=plan.parallel,
        slot_tokens=plan.context,
        pool_tokens=plan.kv_tokens if plan.layout == "unified" else None,
        batch_tokens=max(_BATCH_TOKENS, plan.parallel),
        threads=threads.count,
        cache_type=config.cache_type,
        flash_attention=config.flash_attention,
    )
    budget = StepBudget(target_s=config.step_target_s, maximum=context.batch_tokens)
    _warm_up(context, budget)
    prefix_memory_bytes = plan_prefix_memory(config, memory.available_or_guessed_bytes())
    facts = _facts(model, context, plan, threads, load_s=time.monotonic() - started_s)
    reader = PromptReader(model.vocabulary, _compile_template(model), context=facts.context)
    return LoadedModel(context, model.vocabulary, reader, facts, budget, prefix_memory_bytes)


def _warm_up(context: NativeContext, budget: StepBudget) -> None:
    """Compute a few tokens. Ready means that this model computes here, not that a file was opened.

    ``budget`` learns from it. The first step is not counted: it waits for the weights to be read from the disk.
    """
    at = 0
    for count in _WARM_UP_STEPS:
        batch, end = context.batch, at + count
        if end > context.slot_tokens:
            break
        batch.token[:count] = 0
        batch.position[:count] = np.arange(at, end)
        batch.slot[:count] = 0
        batch.wants_logits[:count] = 0
        batch.wants_logits[count - 1] = 1
        began_s = time.monotonic()
        try:
            logits = context.decode(count, 1)
        except DecodeFailed as error:
            raise ModelLoadFailed(
                f"the model loads and cannot compute: {error}; its file is damaged"
            ) from error
        if not bool((logits == logits).all()):
            raise ModelLoadFailed("the model computes no numbers (NaN): its file is damaged, fetch it again")
        elapsed_s = time.monotonic() - began_s
        if at and count == 1:
            budget.learn(decode_width=1, prefill_tokens=0, elapsed_s=elapsed_s)
        elif at:
            budget.learn(decode_width=0, prefill_tokens=count, elapsed_s=elapsed_s)
        at = end
    context.clear_slot(0)


def _compile_template(model: NativeModel) -> ChatTemplate | None:
    source = model.chat_template
    if source is None:
        return None
    vocabulary = model.vocabulary
    try:
        return ChatTemplate(
            source,
            beginning=vocabulary.special_text(-1 if vocabulary.beginning is None else vocabulary.beginning),
            end=vocabulary.special_text(-1 if vocabulary.end is None else vocabulary.end),
            control_texts=vocabulary.control_texts,
        )
    except jinja2.TemplateError as error:
        raise ModelLoadFailed(f"the chat template in the file does not compile: {error}") from error


def _facts(
    model: NativeModel, context: NativeContext, plan: MemoryPlan, threads: ThreadChoice, *, load_s: float
) -> ModelFacts:
    return ModelFacts(
        description=model.description,
        architecture=model.architecture,
        parameters=model.parameters,
        file_bytes=model.path.stat().st_size,
        # llama.cpp rounds a context up; the promise stays what was planned.
        context=min(plan.context, context.slot_tokens),
        context_trained=model.context_trained,
        parallel=plan.parallel,
        kv_layout=plan.layout,
        kv_bytes=plan.kv_bytes,
        kv_tokens=plan.kv_tokens,
        kv_reason=plan.reason,
        threads=threads.count,
        threads_reason=threads.reason,
        backend=library.backend_description(),
        vocabulary=model.vocabulary.size,
        has_chat_template=model.chat_template is not None,
        build=f"llama-cpp-python {library.version()}",
        load_s=load_s,
    )
