"""With flash attention or without: what is set is taken, what cannot be chosen is not tried, else a trial decides."""

from __future__ import annotations

import msgspec
import pytest

from engine import attention_choice
from engine.attention_choice import AttentionChoice, choose_attention
from engine.backend import DecodeFailed
from engine.config import EngineConfig, FlashAttention
from engine.native import library
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from tests.engine.real import real_config

pytestmark = pytest.mark.model
_PLENTY = 8 << 30
_CELLS = 2048


def _choose(
    config: EngineConfig,
    model: NativeModel,
    available: int = _PLENTY,
    attention: FlashAttention = "auto",
    saved: FlashAttention | None = None,
) -> AttentionChoice:
    config = msgspec.structs.replace(config, flash_attention=attention)
    return choose_attention(config, model, cells=_CELLS, threads=1, available=available, saved=saved)


def _end_trials_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: object) -> tuple[float, float]:
        raise error

    monkeypatch.setattr(attention_choice, "_compare", compare)


def _without_own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "has_gpu", lambda: False)
    monkeypatch.setattr(library, "has_attended", lambda: False)


@pytest.mark.parametrize("times", [(0.020, 0.008), (0.010, 0.009), (0.008, 0.020)])
def test_without_must_be_clearly_faster(
    model: NativeModel, monkeypatch: pytest.MonkeyPatch, times: tuple[float, float]
) -> None:
    monkeypatch.setattr(attention_choice, "_compare", lambda *_: times)
    _without_own_kernel(monkeypatch)
    chosen = _choose(real_config(), model)
    assert chosen.flash == ("off" if times[0] > 1.2 * times[1] else "auto")
    assert f"{times[1] * 1e3:.1f} without" in chosen.reason


@pytest.mark.parametrize(
    ("saved", "times", "flash"),
    [
        ("auto", (0.013, 0.010), "auto"),
        ("auto", (0.016, 0.010), "off"),
        ("off", (0.010, 0.013), "off"),
        ("off", (0.010, 0.016), "auto"),
    ],
)
def test_what_prefixes_on_disk_were_computed_with_stays_unless_the_other_is_much_faster(
    model: NativeModel,
    monkeypatch: pytest.MonkeyPatch,
    saved: FlashAttention,
    times: tuple[float, float],
    flash: str,
) -> None:
    monkeypatch.setattr(attention_choice, "_compare", lambda *_: times)
    _without_own_kernel(monkeypatch)
    assert _choose(real_config(), model, saved=saved).flash == flash


@pytest.mark.parametrize(
    ("changes", "available", "flash"),
    [
        ({"cache_type": "q8_0"}, _PLENTY, "auto"),
        ({"spares_memory": True}, _PLENTY, "auto"),
        ({}, 1 << 20, "auto"),
    ],
)
def test_where_there_is_no_choice_nothing_is_tried(
    model: NativeModel,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    available: int,
    flash: str,
) -> None:
    _end_trials_with(AssertionError("a trial costs time"), monkeypatch)
    chosen = _choose(real_config(**changes), model, available)
    assert (chosen.flash, bool(chosen.reason)) == (flash, True)


@pytest.mark.parametrize("attention", ["on", "off"])
def test_what_is_set_is_taken(model: NativeModel, attention: FlashAttention) -> None:
    chosen = _choose(real_config(), model, attention=attention)
    assert (chosen.flash, chosen.reason) == (attention, "as set")


def test_gpus_are_llama_cpp_s_business(model: NativeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "has_gpu", lambda: True)
    assert _choose(real_config(), model).reason == "llama.cpp's choice for a GPU"


def test_a_model_that_cannot_be_tried_is_served_as_it_was(
    model: NativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _end_trials_with(DecodeFailed("no room in the KV cache"), monkeypatch)
    _without_own_kernel(monkeypatch)
    assert _choose(real_config(), model) == AttentionChoice(
        "auto", 512, "it could not be tried (no room in the KV cache)"
    )


@pytest.mark.usefixtures("avx2_kernels")
def test_where_our_kernel_attends_nothing_is_tried(
    model: NativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _end_trials_with(AssertionError("a trial costs time"), monkeypatch)
    chosen = _choose(real_config(), model)
    assert chosen == AttentionChoice("auto", 512, "this build's own kernel decodes as fast at any length")


def test_a_real_trial_tells_both_times(model: NativeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_own_kernel(monkeypatch)
    chosen = _choose(real_config(), model)
    assert chosen.flash in ("auto", "off")
    assert chosen.reason.startswith("at 2048 tokens a step takes ")


@pytest.mark.parametrize("flash", ["on", "off"])
def test_a_multiplied_slot_is_as_long_as_all_and_can_be_cut(model: NativeModel, flash: str) -> None:
    context = NativeContext(
        model,
        slots=4,
        slot_tokens=256,
        pool_tokens=256,
        batch_tokens=64,
        threads=1,
        flash_attention="on" if flash == "on" else "off",
    )
    batch = context.batch
    try:
        batch.token[:32], batch.position[:32], batch.slot[:32] = 100, range(32), 0
        batch.wants_logits[:32] = 0
        batch.wants_logits[31] = 1
        context.decode(32, 1)
        size = len(context.save_slot(0))
        context.multiply(0)
        assert len(context.save_slot(0)) > 3.9 * size
        context.cut_slot(0, 16)
        assert len(context.save_slot(0)) < 2.1 * size
    finally:
        context.close()


def test_slots_with_buffers_of_their_own_are_not_multiplied(model: NativeModel) -> None:
    """llama.cpp aborts on a copy into a sequence of another buffer that holds something."""
    context = NativeContext(model, slots=2, slot_tokens=256, batch_tokens=64, threads=1)
    try:
        with pytest.raises(DecodeFailed, match="buffers of their own"):
            context.multiply(0)
    finally:
        context.close()
