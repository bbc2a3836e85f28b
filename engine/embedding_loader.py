"""Loading a model that makes vectors: its context, and one computed vector as the proof."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from engine.backend import DecodeFailed
from engine.cache_type import check_cache_type
from engine.config import Capability, EngineConfig, ModelFacts, Pooling
from engine.embedding_core import EmbeddingBackend
from engine.embedding_intake import EmbeddingIntake
from engine.errors import InsufficientMemory, ModelLoadFailed
from engine.front_desk import FrontDesk
from engine.native import library
from engine.native.context_sizes import MOST_SEQUENCES
from engine.native.embedding_context import NativeEmbeddingContext
from engine.native.model import NativeModel
from engine.reserve import anonymous_bytes, kept_bytes, untaken_bytes
from engine.threads import choose_threads

DEFAULT_INPUT_TOKENS = 2048
"""The longest input where nobody set ``context``: attention over a batch takes memory by the square of it."""
_LEAST_BATCH_TOKENS = 512
_CUTTABLE_ARCHITECTURES = frozenset({"gemma-embedding"})
"""Those whose every model is trained so that vectors may be cut."""


@dataclass(frozen=True, slots=True)
class LoadedEmbedder:
    """A model that has made a vector."""

    backend: EmbeddingBackend
    intake: EmbeddingIntake
    facts: ModelFacts
    desk: FrontDesk


def is_embedder(config: EngineConfig, model: NativeModel) -> bool:
    """Whether to load ``model`` for vectors: because it can do nothing else, was made for it, or is set to."""
    return config.embeds or not model.is_causal or model.pooling is not None


def load_embedder(config: EngineConfig, model: NativeModel, began_s: float) -> LoadedEmbedder:
    """Raises ModelLoadFailed and InsufficientMemory, which name the mend."""
    if config.adapters:
        raise ModelLoadFailed(
            f"{model.path.name} makes vectors, and adapters are served with models that generate text; take them out "
            "of `adapters`"
        )
    if model.is_recurrent:
        raise ModelLoadFailed(
            f"{model.path.name} has a recurrent memory, and such models make no vectors here; take it out of `embed`"
        )
    if config.cache_type != "f16" and model.is_causal:
        key_width, value_width = model.head_widths
        check_cache_type(
            config.cache_type, config.flash_attention, key_width=key_width, value_width=value_width
        )
    threads = choose_threads(config.threads)
    pooling: Pooling = model.pooling or ("last" if model.is_causal else "mean")
    wanted = config.context or min(model.context_trained or DEFAULT_INPUT_TOKENS, DEFAULT_INPUT_TOKENS)
    taken_before = anonymous_bytes()
    context = NativeEmbeddingContext(
        model,
        batch_tokens=max(wanted, _LEAST_BATCH_TOKENS),
        sequences=config.parallel or MOST_SEQUENCES,
        threads=threads.count,
        pooling=pooling,
        flash_attention=config.flash_attention,
    )
    input_tokens = min(wanted, context.input_tokens)
    _warm_up(context)
    kv_bytes = context.batch_tokens * model.kv_bytes_per_token("f16") if model.is_causal else 0
    if config.kv_budget_bytes is not None and kv_bytes > config.kv_budget_bytes:
        raise InsufficientMemory(
            f"inputs of {input_tokens} tokens need {kv_bytes} bytes of KV cache, more than `kv_budget`; lower `context`"
        )
    capability: Capability = "rerank" if context.is_scoring else "embedding"
    facts = ModelFacts(
        description=model.description,
        architecture=model.architecture,
        parameters=model.parameters,
        file_bytes=model.file_bytes,
        context=input_tokens,
        context_trained=model.context_trained,
        parallel=context.batch_sequences,
        kv_layout="unified",
        kv_bytes=kv_bytes,
        kv_tokens=context.batch_tokens,
        anonymous_bytes=anonymous_bytes(),
        reserved_bytes=untaken_bytes(kv_bytes, taken_before),
        mapped_bytes=kept_bytes(config, model.mapped_bytes),
        kv_reason="a model that makes vectors computes whole inputs, and keeps nothing",
        threads=threads.count,
        threads_reason=threads.reason,
        backend=library.backend_description(),
        vocabulary=model.vocabulary.size,
        has_chat_template=False,
        capabilities=(capability,),
        pooling=pooling,
        embedding_width=0 if context.is_scoring else context.width,
        build=f"llama-cpp-python {library.version()}",
        load_s=time.monotonic() - began_s,
    )
    intake = EmbeddingIntake(
        model.vocabulary,
        input_tokens=input_tokens,
        width=context.width,
        is_scoring=context.is_scoring,
        is_cuttable=config.is_matryoshka or model.architecture in _CUTTABLE_ARCHITECTURES,
        pair_template=model.pair_template,
    )
    return LoadedEmbedder(context, intake, facts, FrontDesk(model.vocabulary, None, model.chat_template))


def _warm_up(context: NativeEmbeddingContext) -> None:
    """Make one vector. Ready means that this model computes here, not that a file was opened."""
    batch = context.batch
    batch.token[0] = batch.position[0] = batch.slot[0] = 0
    try:
        vector = context.embed(1, 1)
    except DecodeFailed as error:
        raise ModelLoadFailed(f"the model loads and cannot compute: {error}; its file is damaged") from error
    if not np.isfinite(vector).all():
        raise ModelLoadFailed("the model computes no numbers (NaN): its file is damaged, fetch it again")
