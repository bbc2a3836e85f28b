"""Loading a model in its worker: weights, context, template, and one decoded token as the proof."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from engine import memory
from engine.adapter import Adapter
from engine.adapter_catalog import AdapterCatalog, check_adapter
from engine.adapter_set import NO_ADAPTERS
from engine.adapter_trial import try_adapter
from engine.attention_choice import AttentionChoice, choose_attention
from engine.backend import Backend
from engine.cache_type import check_cache_type
from engine.config import Capability, EngineConfig, FlashAttention, ModelFacts
from engine.disk.directory import holds_prefixes
from engine.disk.model_key import file_key, model_key
from engine.draft_loader import DraftLoader
from engine.draft_model import DraftModel
from engine.embedding_loader import LoadedEmbedder, is_embedder, load_embedder
from engine.errors import ModelLoadFailed
from engine.front_desk import FrontDesk
from engine.memory_plan import MemoryPlan, padded, plan_memory, plan_prefix_memory
from engine.native import library
from engine.native.adapter import NativeAdapter
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.prompt_reader import PromptReader, Vocabulary
from engine.reserve import anonymous_bytes, kept_bytes, untaken_bytes
from engine.step_budget import StepBudget
from engine.template_choice import read_template
from engine.template_process import TemplateProcess
from engine.template_renderer import TemplateSource
from engine.threads import ThreadChoice, choose_threads
from engine.warm_up import warm_up

_logger = logging.getLogger("nibble.worker")


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
    disk_key: str | None
    """Which saved prefixes on disk are this model's; None where none are to be kept."""
    desk: FrontDesk
    adapters: AdapterCatalog
    draft_model: DraftModel | None = None


def load(config: EngineConfig) -> LoadedModel | LoadedEmbedder:
    """Load ``config.model_path``. Raises ModelLoadFailed and InsufficientMemory, which name the mend."""
    began_s = time.monotonic()
    if config.prefix_disk_bytes and config.prefix_memory_bytes == 0:
        raise ModelLoadFailed(
            "prefix_disk needs prefix_memory, through which prefixes go to disk and back; set it above 0, or not"
        )
    _check_adapters(config.adapters)
    if config.draft_model_path and not config.speculation:
        raise ModelLoadFailed("draft_model is of no use without speculation; leave out one of the two")
    model = NativeModel(config.model_path, config.gpu_layers, may_repack=not config.spares_memory)
    if is_embedder(config, model):
        return load_embedder(config, model, began_s)
    return _load_generator(config, model, began_s)


def load_generator(config: EngineConfig) -> LoadedModel:
    """The same, of a model that must be one that generates text."""
    loaded = load(config)
    if not isinstance(loaded, LoadedModel):
        raise ModelLoadFailed(f"{config.model_id} makes vectors and generates no text")
    return loaded


def _load_generator(config: EngineConfig, model: NativeModel, started_s: float) -> LoadedModel:
    threads = choose_threads(config.threads)
    key_width, value_width = model.head_widths
    check_cache_type(config.cache_type, config.flash_attention, key_width=key_width, value_width=value_width)
    # Before the memory is measured, and before the context is made.
    adapters = [NativeAdapter(model, adapter) for adapter in config.adapters]
    draft = DraftLoader(config, config.draft_model_path, model) if config.draft_model_path else None
    mapped = kept_bytes(config, model.mapped_bytes, draft.model.mapped_bytes if draft else 0)
    starting = _start_template(config, model)
    plan = plan_memory(
        config,
        context_trained=model.context_trained,
        kv_bytes_per_token=model.kv_bytes_per_token(config.cache_type)
        + (draft.kv_bytes_per_token if draft else 0),
        available=_free_bytes(mapped),
        can_share_pool=not model.is_recurrent,
    )
    attention = choose_attention(
        config,
        model,
        cells=plan.kv_tokens if plan.layout == "unified" else padded(plan.context),
        threads=threads.count,
        available=_free_bytes(mapped),
        saved=_saved_attention(config, model, plan),
    )
    taken_before = anonymous_bytes()
    context = NativeContext(
        model,
        slots=plan.parallel,
        slot_tokens=plan.context,
        pool_tokens=plan.kv_tokens if plan.layout == "unified" else None,
        batch_tokens=max(attention.batch_tokens, plan.parallel),
        threads=threads.count,
        cache_type=config.cache_type,
        flash_attention=attention.flash,
        adapters=adapters,
    )
    budget = StepBudget(target_s=config.step_target_s, maximum=context.batch_tokens)
    warm_up(context, budget)
    draft_model = draft.start(plan, attention, threads=threads.count) if draft else None
    _try_adapters(context, config.adapters)
    untaken = untaken_bytes(plan.kv_bytes, taken_before)
    prefix_memory_bytes = plan_prefix_memory(config, _free_bytes(mapped + untaken))
    disk_key = _disk_key(config, model, plan, attention.flash) if _uses_disk(config, context) else None
    template = starting.checked()
    description = draft.model.description if draft else ""
    load_s = time.monotonic() - started_s
    facts = _facts(
        config,
        template,
        model,
        context,
        plan,
        attention,
        threads,
        prefix_bytes=prefix_memory_bytes,
        untaken_bytes=untaken,
        mapped_bytes=mapped,
        draft_model=description,
        load_s=load_s,
    )
    reader = PromptReader(model.vocabulary, template.process, context=facts.context, fault=template.fault)
    catalog = AdapterCatalog((adapter, file_key(Path(adapter.path))) for adapter in config.adapters)
    desk = FrontDesk(model.vocabulary, reader, template.source or None)
    return LoadedModel(
        context,
        model.vocabulary,
        reader,
        facts,
        budget,
        prefix_memory_bytes,
        disk_key,
        desk,
        catalog,
        draft_model,
    )


def _check_adapters(adapters: tuple[Adapter, ...]) -> None:
    names = [adapter.name for adapter in adapters]
    for adapter in adapters:
        if names.count(adapter.name) > 1:
            raise ModelLoadFailed(
                f"'{adapter.name}' must name one adapter; give each in `adapters` its own name"
            )
        check_adapter(adapter)


def _free_bytes(promised: int) -> int:
    """What is told as free and not ``promised``."""
    return max(0, memory.available_or_guessed_bytes() - promised)


def _uses_disk(config: EngineConfig, context: NativeContext) -> bool:
    if config.prefix_disk_bytes and not context.shares_prefixes:
        _logger.warning(
            "prefix_disk is not used for %s: its memory cannot be cut to a prefix", config.model_id
        )
    return bool(config.prefix_disk_bytes) and context.shares_prefixes


def _saved_attention(config: EngineConfig, model: NativeModel, plan: MemoryPlan) -> FlashAttention | None:
    """What the prefixes on disk were computed with; None where there are none, or some of each."""
    if not config.prefix_disk_bytes:
        return None
    choices: tuple[FlashAttention, ...] = ("auto", "off")
    root = Path(config.prefix_disk_path)
    saved = [each for each in choices if holds_prefixes(root, _disk_key(config, model, plan, each))]
    return saved[0] if len(saved) == 1 else None


def _disk_key(config: EngineConfig, model: NativeModel, plan: MemoryPlan, flash: FlashAttention) -> str:
    return model_key(
        model.path,
        cache_type=config.cache_type,
        # The layout of values hangs on it.
        flash_attention=flash,
        # A state tells how many buffers there are, and is refused where there are more or fewer.
        buffers=1 if plan.layout == "unified" else plan.parallel,
        build=library.version(),
        backend=library.backend_description(),
        gpu_layers=config.gpu_layers,
    )


def _try_adapters(context: NativeContext, adapters: tuple[Adapter, ...]) -> None:
    """Compute a token with each adapter, and leave none set."""
    for place, adapter in enumerate(adapters):
        try_adapter(context, adapter.name, place)
    if adapters:
        context.set_adapters(NO_ADAPTERS)


@dataclass(frozen=True, slots=True)
class _Template:
    """What chats are rendered with, or why they are not."""

    source: str = ""
    process: TemplateProcess | None = None
    fault: str = ""
    tool_source: str = ""

    def checked(self) -> _Template:
        """This template, or why it cannot be rendered."""
        if self.process is None or not (fault := self.process.check()):
            return self
        self.process.close()
        _logger.warning("the chat template cannot be used: %s", fault)
        return _Template(fault=fault)


def _start_template(config: EngineConfig, model: NativeModel) -> _Template:
    """Begin to compile the template while the rest is loading. Raises ModelLoadFailed for a setting that is wrong."""
    tool_use = ""
    if config.chat_template is not None:
        try:
            source: str | None = read_template(config.chat_template)
        except ValueError as error:
            _logger.error("%s", error)
            # Clients read this, and the path is none of theirs.
            raise ModelLoadFailed(
                "the chat template that is configured cannot be read; mend the setting chat_template"
            ) from error
    else:
        source, tool_use = model.chat_template, model.tool_template or ""
    if not source:
        return _Template(fault="its file has none")
    vocabulary = model.vocabulary
    process = TemplateProcess(
        TemplateSource(
            source,
            beginning=vocabulary.special_text(-1 if vocabulary.beginning is None else vocabulary.beginning),
            end=vocabulary.special_text(-1 if vocabulary.end is None else vocabulary.end),
            control_texts=vocabulary.control_texts,
            tool_use=tool_use,
        )
    )
    process.start()
    return _Template(source, process, tool_source=tool_use)


def _facts(
    config: EngineConfig,
    template: _Template,
    model: NativeModel,
    context: NativeContext,
    plan: MemoryPlan,
    attention: AttentionChoice,
    threads: ThreadChoice,
    *,
    prefix_bytes: int,
    untaken_bytes: int,
    mapped_bytes: int,
    draft_model: str,
    load_s: float,
) -> ModelFacts:
    return ModelFacts(
        description=model.description,
        architecture=model.architecture,
        parameters=model.parameters,
        file_bytes=model.file_bytes,
        # llama.cpp rounds a context up; the promise stays what was planned.
        context=min(plan.context, context.slot_tokens),
        context_trained=model.context_trained,
        parallel=plan.parallel,
        kv_layout=plan.layout,
        kv_bytes=plan.kv_bytes,
        kv_tokens=plan.kv_tokens,
        kv_reason=plan.reason,
        prefix_bytes=prefix_bytes,
        anonymous_bytes=anonymous_bytes(),
        reserved_bytes=untaken_bytes + prefix_bytes,
        mapped_bytes=mapped_bytes,
        flash_attention=attention.flash,
        attention_reason=attention.reason,
        threads=threads.count,
        threads_reason=threads.reason,
        backend=library.backend_description(),
        vocabulary=model.vocabulary.size,
        draft_model=draft_model,
        has_chat_template=template.process is not None,
        chat_template=template.source,
        tool_template=template.tool_source,
        chat_template_fault=template.fault,
        reasoning_format=config.reasoning_format,
        capabilities=_capabilities(config, takes_chats=template.process is not None),
        tool_format=config.tool_format,
        build=f"llama-cpp-python {library.version()}",
        load_s=load_s,
    )


def _capabilities(config: EngineConfig, *, takes_chats: bool) -> tuple[Capability, ...]:
    # Every model that chats calls tools: one whose template knows nothing of them is told in a message.
    chatting: tuple[Capability, ...] = ("chat", "completion", "tools")
    found = chatting if takes_chats else ("completion",)
    return (*found, "adapters") if config.adapters else found
