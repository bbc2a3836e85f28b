"""What a loaded model was promised and has not taken yet."""

from __future__ import annotations

import mmap
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import reserve
from engine.config import EngineConfig, ModelFacts
from engine.process_memory import ProcessMemory
from engine.reserve import anonymous_bytes, kept_bytes, mapped_bytes, reserved_bytes, untaken_bytes
from tests.fakes.facts import facts

_MIB = 1 << 20
_sizes = st.integers(0, 1 << 40)


def _held(anonymous: int) -> ProcessMemory:
    return ProcessMemory(resident_bytes=anonymous, anonymous_bytes=anonymous)


def _model(*, anonymous: int, reserved: int, mapped: int = 0) -> ModelFacts:
    return msgspec.structs.replace(
        facts(), anonymous_bytes=anonymous, reserved_bytes=reserved, mapped_bytes=mapped
    )


def test_what_a_model_takes_after_it_was_ready_is_no_longer_reserved() -> None:
    model = _model(anonymous=100 * _MIB, reserved=50 * _MIB)
    assert reserved_bytes(model, _held(100 * _MIB)) == 50 * _MIB
    assert reserved_bytes(model, _held(130 * _MIB)) == 20 * _MIB
    assert reserved_bytes(model, _held(900 * _MIB)) == 0


def test_weights_that_are_mapped_stay_reserved() -> None:
    model = _model(anonymous=100 * _MIB, reserved=50 * _MIB, mapped=70 * _MIB)
    assert reserved_bytes(model, _held(100 * _MIB)) == 120 * _MIB
    assert reserved_bytes(model, _held(900 * _MIB)) == 70 * _MIB


def test_for_weights_that_exceed_the_memory_no_page_cache_is_kept() -> None:
    config = EngineConfig(model_id="", model_path="")
    assert kept_bytes(config, 70 * _MIB, 10 * _MIB) == 80 * _MIB
    assert kept_bytes(msgspec.structs.replace(config, spares_memory=True), 70 * _MIB, 10 * _MIB) == 0


@given(at_first=_sizes, reserved=_sizes, now=_sizes)
def test_a_reserve_is_never_more_than_was_promised(at_first: int, reserved: int, now: int) -> None:
    model = _model(anonymous=at_first, reserved=reserved)
    assert 0 <= reserved_bytes(model, _held(now)) <= reserved


def test_nothing_is_reserved_where_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reserved_bytes(_model(anonymous=1, reserved=50 * _MIB), None) == 0
    monkeypatch.setattr(reserve, "process_memory", lambda _: None)
    assert anonymous_bytes() == 0
    assert untaken_bytes(50 * _MIB, 0) == 0
    assert mapped_bytes(50 * _MIB, 0) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells elsewhere what a process holds")
def test_pages_are_untaken_until_they_are_written() -> None:
    before = anonymous_bytes()
    with mmap.mmap(-1, 64 * _MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        assert untaken_bytes(64 * _MIB, before) > 60 * _MIB
        assert mapped_bytes(64 * _MIB, before) > 60 * _MIB
        pages[: 40 * _MIB] = bytes(40 * _MIB)
        assert untaken_bytes(64 * _MIB, before) < 30 * _MIB
        assert mapped_bytes(64 * _MIB, before) < 30 * _MIB
