"""Tuning tiny models for real: quantised, loaded and read in processes of their own."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import InvalidRequest, ModelLoadFailed
from engine.quantization_type import QUANTIZATION_TYPES
from model_registry.quantize.quantization_cancelled import QuantizationCancelled
from model_registry.quantize.quantizer import Progress
from model_registry.tune.measuring import Unit
from model_registry.tune.tuner import Tuner
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.quantize.shop import Shop

_TEXT = "How far is it to the harbour, and who will carry the clock? " * 6
_Q4_0, _Q8_0, _Q1_0 = (QUANTIZATION_TYPES[name] for name in ("Q4_0", "Q8_0", "Q1_0"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(width=64))
    return Shop(tmp_path)


def test_twins_are_measured_and_removed(shop: Shop) -> None:
    stages: list[str] = []

    @contextmanager
    def stage(title: str, unit: Unit) -> Generator[Progress]:
        told: list[tuple[int, int | None]] = []
        yield lambda done, whole: told.append((done, whole))
        assert told[-1][0] == told[-1][1], "a stage that is over was not told to its end"
        assert unit == ("bytes" if title.startswith("making") else "tokens")
        stages.append(title)

    kept: list[str] = []

    @contextmanager
    def room(path: Path) -> Generator[None]:
        assert path.exists()
        kept.append(path.name)
        yield
        assert path.exists(), "the file outlives what is measured of it"

    tuning = shop.tuner.tune(shop.model("tiny"), _TEXT, types=[_Q8_0, _Q1_0, _Q8_0], stage=stage, room=room)
    assert (len(kept), kept[0]) == (2, "tiny.gguf"), (
        "there is room for each file that is loaded, and for nothing else"
    )
    assert stages == ["measuring tiny F32", "making Q8_0", "measuring Q8_0"]
    assert [choice.quantisation for choice in tuning.choices] == ["F32", "Q8_0"]
    (reason,) = tuning.left_out
    assert reason.startswith("Q1_0 is left out: the rows of this model do not divide")
    original, twin = tuning.choices
    assert (original.perplexity_ratio, original.ratio_error) == (1.0, 0.0)
    assert twin.perplexity_ratio == pytest.approx(twin.perplexity / original.perplexity)
    assert 0 < twin.ratio_error < 0.1
    assert twin.file_bytes < original.file_bytes
    assert all(min(one.prefill, one.decode_1, one.decode_8, one.memory_bytes) > 0 for one in tuning.choices)
    assert (tuning.tokens > 256, tuning.threads, tuning.twin_record) == (True, 1, None)
    assert shop.files() == ["tiny.gguf"]
    assert shop.store.records() == {}
    # The same file and text, the same bits.
    again = shop.tuner.tune(shop.model("tiny"), _TEXT, types=[_Q8_0])
    assert [one.perplexity for one in again.choices] == [one.perplexity for one in tuning.choices]


def test_a_twin_is_applied_found_again_and_gone_back_from(shop: Shop) -> None:
    tuning = shop.tuner.tune(shop.model("tiny"), _TEXT, apply=_Q4_0)
    assert tuning.twin_id == "tiny-q4_0"
    assert shop.store.record("tiny").twin == tuning.twin_record
    shop.look()
    assert shop.files() == ["tiny-q4_0.gguf", "tiny.gguf"]
    assert shop.shelf.find("tiny").id == "tiny-q4_0"
    assert shop.shelf.card("tiny").id == "tiny"
    assert shop.model("tiny").id == "tiny"
    assert shop.tuner.revert(shop.model("tiny")) == "tiny-q4_0"
    shop.look()
    assert shop.shelf.find("tiny").id == "tiny"
    with pytest.raises(InvalidRequest, match="nothing to go back from"):
        shop.tuner.revert(shop.model("tiny"))
    # The one that is there is measured as it is, and not made again.
    changed = (shop.models / "tiny-q4_0.gguf").stat().st_mtime_ns
    again = shop.tuner.tune(shop.model("tiny"), _TEXT, apply=_Q4_0)
    assert again.twins[0].perplexity == tuning.twins[0].perplexity
    assert (shop.models / "tiny-q4_0.gguf").stat().st_mtime_ns == changed
    shop.look()
    assert shop.shelf.find("tiny").id == "tiny-q4_0"


def test_what_cannot_be_applied_is_told_before_anything_is_measured(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(shop.models / "tiny-q4_0.gguf", Tiny(width=64, seed=9))
    shop.look()
    monkeypatch.setattr("model_registry.tune.tuner.Measuring", None)
    with pytest.raises(InvalidRequest, match="'tiny-q4_0' already"):
        shop.tuner.tune(shop.model("tiny"), _TEXT, apply=_Q4_0)


def test_a_text_that_is_too_short_and_a_model_without_text_are_told(shop: Shop) -> None:
    with pytest.raises(
        InvalidRequest, match=r"the text has \d tokens, and fewer than 256 tell nothing"
    ) as caught:
        shop.tuner.tune(shop.model("tiny"), "short", types=[_Q8_0])
    assert caught.value.param == "text"
    write_tiny(shop.models / "bert.gguf", Tiny(architecture="bert"))
    shop.look()
    with pytest.raises(ModelLoadFailed, match="makes vectors and generates no text"):
        shop.tuner.tune(shop.model("bert"), _TEXT, types=[_Q8_0])


def test_a_file_that_ends_the_process_is_told(shop: Shop) -> None:
    path = shop.models / "tiny.gguf"
    path.write_bytes(path.read_bytes().replace(b"<0x41>", b"<0x42>"))
    shop.look()
    with pytest.raises(
        ModelLoadFailed, match=r"the process that worked on tiny.gguf .*: the file is damaged"
    ):
        shop.tuner.tune(shop.model("tiny"), _TEXT, types=[_Q8_0])


@pytest.mark.parametrize("at", ["measuring tiny F32", "making Q4_0", "measuring Q4_0"])
def test_a_cancelled_tuning_changes_nothing(shop: Shop, at: str) -> None:
    cancel = threading.Event()

    @contextmanager
    def stage(title: str, unit: Unit) -> Generator[Progress]:
        if title == at:
            cancel.set()
        yield lambda done, whole: None

    with pytest.raises(QuantizationCancelled):
        shop.tuner.tune(shop.model("tiny"), _TEXT, apply=_Q4_0, stage=stage, cancel=cancel)
    assert shop.files() == ["tiny.gguf"]
    assert shop.store.records() == {}


def test_a_store_that_cannot_be_written_leaves_the_original_serving(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill-safe order: the twin is a model first, and serves for another only then."""
    kept: list[list[str]] = []
    tuner: Tuner = shop.tuner

    def fail(model_id: str, twin: object) -> None:
        kept.append(shop.files())
        raise KeyboardInterrupt

    monkeypatch.setattr(shop.store, "set_twin", fail)
    with pytest.raises(KeyboardInterrupt):
        tuner.tune(shop.model("tiny"), _TEXT, apply=_Q4_0)
    assert kept == [["tiny-q4_0.gguf", "tiny.gguf"]]
    shop.look()
    assert shop.shelf.find("tiny").id == "tiny"
