"""Which model an adapter is for, of real headers, and what is told where that is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_registry.adapter_base import AdapterBases, Base
from model_registry.sources.found_adapter import find_adapter
from model_registry.sources.gguf_layout import is_adapter
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter

NARROW, WIDE = Tiny(name="Narrow 1B"), Tiny(name="Wide 1B", width=64)


@pytest.fixture
def bases(tmp_path: Path) -> dict[str, Base]:
    models = {
        "narrow": NARROW,
        "narrow-chat": Tiny(name="Narrow 1B Chat"),
        "wide": WIDE,
        "other": Tiny(architecture="mamba"),
    }
    return {name: Base(name, (write_tiny(tmp_path / f"{name}.gguf", tiny),)) for name, tiny in models.items()}


def _fit(path: Path, bases: dict[str, Base]) -> tuple[str | None, str]:
    fit = AdapterBases().fit(find_adapter(path, path.stem), bases.values())
    return fit.model, fit.failure or ""


def test_shapes_tell_the_model_where_but_one_has_them(tmp_path: Path, bases: dict[str, Base]) -> None:
    path = write_tiny_adapter(tmp_path / "poet.gguf", TinyAdapter(base=WIDE))
    assert _fit(path, bases) == ("wide", "")
    renamed = write_tiny_adapter(tmp_path / "clerk.gguf", TinyAdapter(base=WIDE, base_name="Somebody's 7B"))
    assert _fit(renamed, bases) == ("wide", ""), "files are renamed, shapes are not"


@pytest.mark.parametrize(
    ("named", "model"),
    [("Narrow 1B", "narrow"), ("narrow-1b-chat", "narrow-chat"), ("NARROW_1B_Chat.Q4_K_M", "narrow-chat")],
)
def test_a_name_tells_it_where_several_have_them(
    named: str, model: str, tmp_path: Path, bases: dict[str, Base]
) -> None:
    path = write_tiny_adapter(tmp_path / "poet.gguf", TinyAdapter(base_name=named))
    assert _fit(path, bases) == (model, "")


@pytest.mark.parametrize("named", [None, "Somebody's 7B"])
def test_where_nothing_tells_it_a_person_must(
    named: str | None, tmp_path: Path, bases: dict[str, Base]
) -> None:
    path = write_tiny_adapter(tmp_path / "poet.gguf", TinyAdapter(base_name=named))
    model, why = _fit(path, bases)
    assert model is None
    assert "('narrow', 'narrow-chat')" in why
    assert "nibble import poet.gguf --for MODEL" in why


def test_one_that_fits_no_model_says_what_it_was_made_for(tmp_path: Path, bases: dict[str, Base]) -> None:
    path = write_tiny_adapter(tmp_path / "p.gguf", TinyAdapter(base=Tiny(width=128), base_name="Huge 70B"))
    model, why = _fit(path, bases)
    assert model is None
    assert "made for Huge 70B" in why


@pytest.mark.parametrize(
    ("made", "base", "why"),
    [
        (TinyAdapter(base=WIDE), "narrow", "for one of another shape than (32, 32)"),
        (TinyAdapter(base=Tiny(layers=3)), "narrow", "no tensor 'blk.2."),
        (TinyAdapter(), "other", "its architecture is llama, the model's mamba"),
        (TinyAdapter(method="control_vector"), "narrow", "of the type 'control_vector'"),
        (TinyAdapter(activation=(5,)), "narrow", "activated LoRA"),
    ],
)
def test_what_is_not_for_a_model_is_told(
    made: TinyAdapter, base: str, why: str, tmp_path: Path, bases: dict[str, Base]
) -> None:
    path = write_tiny_adapter(tmp_path / "poet.gguf", made)
    assert why in (AdapterBases().fault(find_adapter(path, "poet"), bases[base]) or "")


def test_damage_is_told_and_a_file_that_is_mended_is_read_again(
    tmp_path: Path, bases: dict[str, Base]
) -> None:
    reader = AdapterBases()
    path = write_tiny_adapter(tmp_path / "poet.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[:-400])
    assert "ends before its weights do" in (reader.fault(find_adapter(path, "poet"), bases["narrow"]) or "")
    path.write_bytes(whole.replace(b"blk.0.attn_q.weight.lora_a", b"blk.0.attn_q.weight.lora_x"))
    assert "no pairs" in (reader.fault(find_adapter(path, "poet"), bases["narrow"]) or "")
    path.write_bytes(whole)
    assert reader.fault(find_adapter(path, "poet"), bases["narrow"]) is None
    reader.keep([])
    assert reader.fault(find_adapter(path, "poet"), bases["narrow"]) is None


def test_the_parts_of_a_split_model_are_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write_tiny(first, Tiny(layers=1))
    write_tiny(second, Tiny(layers=2))
    adapter = find_adapter(write_tiny_adapter(tmp_path / "poet.gguf"), "poet")
    assert "no tensor 'blk.1." in (AdapterBases().fault(adapter, Base("m", (first,))) or "")
    assert AdapterBases().fault(adapter, Base("m", (first, second))) is None


def test_a_glance_tells_adapters_from_all_else(tmp_path: Path) -> None:
    assert is_adapter(write_tiny_adapter(tmp_path / "poet.gguf"))
    assert not is_adapter(write_tiny(tmp_path / "tiny.gguf"))
    assert not is_adapter(write_tiny_adapter(tmp_path / "vector.gguf", TinyAdapter(kind="controlvector")))
    os.mkfifo(tmp_path / "endless.gguf")
    assert not is_adapter(tmp_path / "endless.gguf"), "a pipe holds nobody up"
    assert not is_adapter(tmp_path / "none.gguf")
    for junk in (b"", b"GGUF", b"GGUF" + b"\xff" * 40, b"<html>"):
        (tmp_path / "junk.gguf").write_bytes(junk)
        assert not is_adapter(tmp_path / "junk.gguf")
