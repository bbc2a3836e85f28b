"""What is read of a header, and that no damage of it is anything but a typed error."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ModelLoadFailed
from model_registry.sources.gguf_layout import TYPE_SIZES, is_adapter, read_layout
from tests.fixtures.tiny_gguf import VOCABULARY, Tiny, write_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf", Tiny(template="{{ messages }}"))


def test_a_header_is_read(tiny: Path) -> None:
    layout = read_layout(tiny)
    assert (layout.architecture, layout.name, layout.vocabulary) == ("llama", "tiny", VOCABULARY)
    assert layout.has_template
    assert layout.tensors == 3 + 2 * 9
    assert layout.needed_bytes <= layout.file_bytes == tiny.stat().st_size
    # The writer pads behind the last tensor, by less than its alignment.
    assert layout.file_bytes - layout.needed_bytes < 32


def test_the_sizes_of_blocks_are_those_of_the_format() -> None:
    known = {kind.value: sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items() if kind.value in TYPE_SIZES}
    assert known == TYPE_SIZES


def test_a_file_that_ends_before_its_weights_is_told_with_the_numbers(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(whole[:-2000])
    with pytest.raises(
        ModelLoadFailed, match=f"ends before its weights do \\({len(whole) - 2000} of"
    ) as caught:
        read_layout(short)
    assert "download it again" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x00\x00\x00general.architecture\x08", b"\x00\x00\x00general.architecture\x63", "has the type 99"),
        (
            b"tokenizer.ggml.tokens\x09\x00\x00\x00\x08",
            b"tokenizer.ggml.tokens\x09\x00\x00\x00\x09",
            "an array",
        ),
        (b"output.weight\x02", b"output.weight\x05", "5 dimensions"),
    ],
)
def test_a_damaged_header_is_told(tiny: Path, tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    whole = tiny.read_bytes()
    assert old in whole
    path = tmp_path / "damaged.gguf"
    path.write_bytes(whole.replace(old, new))
    with pytest.raises(ModelLoadFailed, match=words):
        read_layout(path)


@settings(deadline=None)  # a loaded machine's disk has none
@given(data=st.data())
def test_any_damage_is_a_typed_error_or_none(tiny: Path, data: st.DataObject) -> None:
    whole = bytearray(tiny.read_bytes())
    header_bytes = 12_000
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, header_bytes))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(whole)))
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(whole[:cut])
        file.flush()
        problem, layout = "", None
        try:
            layout = read_layout(Path(file.name))
        except ModelLoadFailed as error:
            problem = error.message
    assert file.name in problem if layout is None else layout.needed_bytes <= layout.file_bytes


def test_a_pipe_is_no_adapter_and_holds_nobody_up(tmp_path: Path) -> None:
    pipe = tmp_path / "endless.gguf"
    os.mkfifo(pipe)
    told: list[bool] = []
    look = threading.Thread(target=lambda: told.append(is_adapter(pipe)), daemon=True)
    look.start()
    look.join(timeout=60)
    assert told == [False]


def _entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def test_a_file_without_tensors_is_damaged_unless_it_is_a_part_of_a_split_model(tmp_path: Path) -> None:
    first = write_tiny(tmp_path / "tiny.gguf", Tiny(part_tensors=8, is_first_bare=True))
    layout = read_layout(first)
    assert (layout.tensors, layout.vocabulary, layout.numbers["split.count"]) == (0, VOCABULARY, 4)
    # Not every writer pads a header that no weights follow.
    os.truncate(first, layout.needed_bytes)
    assert read_layout(first).tensors == 0
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + _entry(b"split.count", 2, struct.pack("<H", 1)))
    with pytest.raises(
        ModelLoadFailed, match=r"damaged in its header \(it has no tensors\): download it again"
    ):
        read_layout(bare)


def test_a_template_is_digested_as_a_worker_is_given_it(tmp_path: Path) -> None:
    def told(template: bytes) -> tuple[bool, str]:
        path = tmp_path / "template.gguf"
        entry = _entry(b"tokenizer.chat_template", 8, struct.pack("<Q", len(template)) + template)
        tensor = struct.pack("<Q1sIIQ", 1, b"t", 0, 0, 0)
        path.write_bytes((b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + entry + tensor).ljust(8192, b"\0"))
        os.truncate(path, 8192 + len(template))
        layout = read_layout(path)
        return layout.has_template, layout.template_sha256

    assert told(b"") == told(b"\0x") == (False, "")
    assert told(b"{{ x }}") == told(b"{{ x }}\0y") == (True, hashlib.sha256(b"{{ x }}").hexdigest())
    assert told(b"\xff") == (True, hashlib.sha256("\ufffd".encode()).hexdigest())
    assert told(b"x" * (5 << 20)) == (True, "")


_HOSTILE = {
    "entries": (1, 1 << 31, b"", "2147483648 entries and 1 tensors"),
    "tensors": (1 << 31, 0, b"", "0 entries and 2147483648 tensors"),
    "texts": (1, 1, _entry(b"k", 9, struct.pack("<IQ", 8, 1 << 40)), "an array of 1099511627776 texts"),
    "numbers": (1, 1, _entry(b"k", 9, struct.pack("<IQ", 0, 1 << 33)), "larger than that of any model"),
    "text": (1, 1, _entry(b"k", 8, struct.pack("<Q", 1 << 33)), "larger than that of any model"),
    "endless template": (
        1,
        1,
        _entry(b"tokenizer.chat_template", 8, struct.pack("<Q", (1 << 64) - 1)),
        "it ends too early",
    ),
    "templates": (
        1,
        1 << 10,
        (_entry(b"tokenizer.chat_template", 8, struct.pack("<Q", 4 << 20)) + bytes(4 << 20)) * 40,
        "larger than that of any model",
    ),
    "endless text": (1, 1, _entry(b"k", 8, struct.pack("<Q", (1 << 64) - 1)), "it ends too early"),
    "endless texts": (1, 1, _entry(b"k", 9, struct.pack("<IQQ", 8, 2, (1 << 64) - 1)), "it ends too early"),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_hostile_header_takes_neither_memory_nor_time(tmp_path: Path, name: str) -> None:
    tensors, entries, rest, words = _HOSTILE[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, entries) + rest)
    os.truncate(path, 1 << 35)
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ModelLoadFailed, match=words):
            read_layout(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 60


def test_texts_of_any_length_are_passed_over(tmp_path: Path) -> None:
    texts = ["", "a" * 3_000_000, "b", *(["c" * 100] * 30_000), "d" * ((1 << 20) - 8), ""]
    writer = gguf.GGUFWriter(tmp_path / "texts.gguf", "llama")
    writer.add_token_list(texts)
    writer.add_name("behind")
    writer.add_tensor("t", np.zeros(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    layout = read_layout(tmp_path / "texts.gguf")
    assert (layout.vocabulary, layout.name, [*layout.shapes]) == (len(texts), "behind", ["t"])
