"""Flash attention or not: whichever decodes faster here, once a sequence is some thousand tokens long.

llama.cpp takes flash attention wherever there is a kernel. ggml's own for CPUs reads prompts somewhat faster, and
decodes slower the longer a sequence is (docs/design.md has figures); ours does not (scripts/attention.h), but
not every CPU, build and model has it. A token tells whether this one does; if not, both are tried at load, where there
is a choice. A trial costs one step of ``_READ`` tokens and a few of one: what is in the cache does not matter to how
long it takes, so that long sequence is one short one, many times over. That is 0.4 s for 135 M parameters, of a load
of 0.7.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from engine.backend import DecodeFailed
from engine.config import EngineConfig, FlashAttention
from engine.errors import InsufficientMemory
from engine.native import library
from engine.native.context import NativeContext
from engine.native.model import NativeModel

_READ = 16
_TIMES = 128
_DEPTH = _READ * _TIMES
"""Long enough for the two to differ clearly: at 512 tokens, trials on one machine ended now so, now so."""
_STEPS = 3
_CLEARLY = 1.2
"""How much faster it must be without. Flash attention reads prompts by up to a fifth faster and takes less memory."""
_WORTH_LOSING_PREFIXES = 1.5
"""How much faster the one must be where the disk holds prefixes that were computed with the other: they are lost with
a change, and two trials at a close call may end differently."""
_BATCH_TOKENS = 512
_PLAIN_BATCH_TOKENS = 256
"""Without, each token of a batch has a score for each one of its sequence and each head: fewer take less memory, and
chunks of this size are read as fast as larger ones."""
_SCORE_BYTES = 4
_SHARE_OF_AVAILABLE = 0.125
"""Memory that scores may take."""


class AttentionChoice(NamedTuple):
    """What a context is made with."""

    flash: FlashAttention
    batch_tokens: int
    reason: str
    """Why, for the log."""


def choose_attention(
    config: EngineConfig,
    model: NativeModel,
    *,
    cells: int,
    threads: int,
    available: int,
    saved: FlashAttention | None = None,
) -> AttentionChoice:
    """For a context with ``cells`` tokens in each buffer of its KV cache, where ``available`` bytes are left.

    ``saved`` is what prefixes on disk were computed with, if there are any.
    """
    if config.flash_attention != "auto":
        return _choice(config.flash_attention, "as set")
    if library.has_gpu() and config.gpu_layers != 0:
        return _choice("auto", "llama.cpp's choice for a GPU")
    if config.cache_type != "f16":
        return _choice("auto", f"a cache of type {config.cache_type} needs it")
    if model.is_recurrent or config.spares_memory:
        return _choice("auto", "there is no choice for this model here")
    scores = _SCORE_BYTES * model.heads * cells * _PLAIN_BATCH_TOKENS
    if scores > _SHARE_OF_AVAILABLE * available:
        return _choice("auto", f"without, scores would take {scores >> 20} MiB of {available >> 20}")
    try:
        # Without is to be tried where the disk would lose its prefixes to the other.
        if saved != "off" and _has_own_kernel(model, threads):
            return _choice("auto", "this build's own kernel decodes as fast at any length")
        with_s, without_s = _compare(model, threads)
    except (DecodeFailed, InsufficientMemory) as error:
        return _choice("auto", f"it could not be tried ({error})")
    figures = f"at {_DEPTH} tokens a step takes {with_s * 1e3:.1f} ms with, {without_s * 1e3:.1f} without"
    needed = {None: _CLEARLY, "off": 1 / _WORTH_LOSING_PREFIXES}.get(saved, _WORTH_LOSING_PREFIXES)
    return _choice("off" if without_s * needed < with_s else "auto", figures)


def _choice(flash: FlashAttention, reason: str) -> AttentionChoice:
    return AttentionChoice(flash, _PLAIN_BATCH_TOKENS if flash == "off" else _BATCH_TOKENS, reason)


def _has_own_kernel(model: NativeModel, threads: int) -> bool:
    context = NativeContext(
        model, slots=1, slot_tokens=_READ, batch_tokens=1, threads=threads, flash_attention="auto"
    )
    try:
        library.has_attended()
        _decode(context, np.array([0]))
        return library.has_attended()
    finally:
        context.close()


def _compare(model: NativeModel, threads: int) -> tuple[float, float]:
    """Seconds of a step behind ``_DEPTH`` tokens, with flash attention and without."""
    contexts = [_long_sequence(model, threads, flash) for flash in ("auto", "off")]
    try:
        # In turns, so that whatever disturbs the machine disturbs both; the best of each tells what it can do.
        times = [[_step_s(context) for context in contexts] for _ in range(_STEPS)]
        with_s, without_s = (min(each) for each in zip(*times, strict=True))
        return with_s, without_s
    finally:
        for context in contexts:
            context.close()


def _long_sequence(model: NativeModel, threads: int, flash: FlashAttention) -> NativeContext:
    context = NativeContext(
        model,
        slots=_TIMES,
        slot_tokens=_DEPTH + _READ,
        pool_tokens=_DEPTH + 256,
        batch_tokens=_READ,
        threads=threads,
        flash_attention=flash,
    )
    _decode(context, np.arange(_READ))
    context.multiply(0)
    return context


def _step_s(context: NativeContext) -> float:
    began_s = time.perf_counter()
    _decode(context, np.array([_READ]))
    elapsed_s = time.perf_counter() - began_s
    context.cut_slot(0, _READ)
    return elapsed_s


def _decode(context: NativeContext, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    count, batch = len(positions), context.batch
    batch.token[:count] = 0
    batch.position[:count] = positions
    batch.slot[:count] = 0
    batch.wants_logits[:count] = 0
    batch.wants_logits[count - 1] = 1
    context.decode(count, 1)
