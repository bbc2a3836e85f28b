"""Importance matrices: both formats tell the same, and what anybody has made of them is refused by its name."""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.errors import InvalidRequest
from engine.importance_matrix import check_fits, read_importance
from engine.quantizer_log import LoggedTensor
from tests.fixtures.tiny_imatrix import Sums, write_imatrix, write_legacy_imatrix

SUMS: Sums = {
    "blk.0.attn_q.weight": np.arange(64, dtype=np.float32)[np.newaxis],
    "blk.0.ffn_up_exps.weight": np.arange(96, dtype=np.float32).reshape(3, 32),
}


def test_both_formats_tell_the_means(tmp_path: Path) -> None:
    new = read_importance(write_imatrix(tmp_path / "a.gguf", SUMS, counts=4))
    old = read_importance(write_legacy_imatrix(tmp_path / "a.dat", SUMS, calls=4))
    assert new.keys() == old.keys() == SUMS.keys()
    for name, rows in SUMS.items():
        assert new[name].tolist() == old[name].tolist() == (rows / 4).reshape(-1).tolist()
        # So it is handed to llama.cpp, by its address.
        assert new[name].flags.c_contiguous
        assert old[name].flags.c_contiguous
        assert new[name].dtype == old[name].dtype == np.float32


def test_an_expert_without_work_counts_evenly(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "")
    writer.add_tensor("t.in_sum2", np.arange(6, dtype=np.float32).reshape(3, 2))
    writer.add_tensor("t.counts", np.array([[2], [0], [4]], dtype=np.float32))
    writer.add_tensor("t.in_sum", np.zeros(6, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert {name: each.tolist() for name, each in read_importance(tmp_path / "a.gguf").items()} == {
        "t": [0, 0.5, 1, 1, 1, 1.25]
    }
    write_legacy_imatrix(tmp_path / "a.dat", {"t": np.ones((1, 2), dtype=np.float32)}, calls=0)
    assert read_importance(tmp_path / "a.dat")["t"].tolist() == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("write", [write_imatrix, write_legacy_imatrix])
def test_what_is_no_mean_of_squares_is_refused(
    write: Callable[[Path, Sums], Path], value: float, tmp_path: Path
) -> None:
    rows = np.ones((1, 32), dtype=np.float32)
    rows[0, 17] = value
    path = write(tmp_path / "a", {"t": rows})
    assert "a weight is negative, or no number" in _refusal(path)


def _refusal(path: Path) -> str:
    with pytest.raises(InvalidRequest, match=r"llama-imatrix|mend its place") as caught:
        read_importance(path)
    assert caught.value.param == "imatrix"
    return caught.value.message


def _gguf(
    values: bytes = b"", tensors: bytes = b"", *, version: int = 3, counts: tuple[int, int] = (0, 0)
) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + values + tensors


def _name(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it ends too early"),
        (b"GGUF", "it ends too early"),
        (b"Hello, this is my shopping list", "it does not begin as one"),
        (struct.pack("<i", -4), "it does not begin as one"),
        (struct.pack("<ii", 1, 1 << 30), "of no sensible length"),
        (struct.pack("<ii", 1, -1), "of no sensible length"),
        (struct.pack("<ii", 1, 2) + b"\xff\xfe", "is no text"),
        (struct.pack("<ii", 1, 2) + b"a\n", "is no text"),
        (struct.pack("<ii", 1, 1) + b"t" + struct.pack("<ii", 1, 0), "no columns"),
        (struct.pack("<ii", 1, 1) + b"t" + struct.pack("<ii", 1, 1 << 30), "it ends too early"),
        (
            struct.pack("<i", 2) + 2 * (struct.pack("<i", 1) + b"t" + struct.pack("<iif", 1, 1, 1)),
            "there twice",
        ),
        (_gguf(version=1), "another version"),
        (_gguf(version=0x03000000), "another version"),
        (_gguf(), "it tells of no tensor"),
        (_gguf(counts=(1 << 60, 0)), "more tensors"),
        (_gguf(counts=(0, 1 << 60)), "it ends too early"),
        (_gguf(_name(b"a") + struct.pack("<I", 13), counts=(0, 1)), "a value of the type 13"),
        (_gguf(_name(b"a") + struct.pack("<IIQ", 9, 9, 1), counts=(0, 1)), "an array of the type 9"),
        (_gguf(_name(b"a") + struct.pack("<IIQ", 9, 8, 1 << 60), counts=(0, 1)), "an array of 1152921504606846"),
        (_gguf(_name(b"a") + struct.pack("<IIQ", 9, 6, 1 << 62), counts=(0, 1)), "it ends too early"),
        (_gguf(_name(b"general.alignment") + struct.pack("<II", 4, 0), counts=(0, 1)), "alignment"),
        (_gguf(tensors=_name(b"t.in_sum2") + struct.pack("<I", 9), counts=(1, 0)), "9 dimensions"),
        (_gguf(tensors=_name(b"t.in_sum2") + struct.pack("<IQIQ", 1, 4, 1, 0), counts=(1, 0)), "32-bit floats"),
        (
            _gguf(tensors=_name(b"t.in_sum2") + struct.pack("<IQIQ", 1, 0, 0, 0) + bytes(32), counts=(1, 0)),
            "without their",
        ),
        (
            _gguf(tensors=2 * (_name(b"t.counts") + struct.pack("<IQIQ", 1, 1, 0, 0)), counts=(2, 0)),
            "there twice",
        ),
        (
            _gguf(
                tensors=_name(b"t.in_sum2")
                + struct.pack("<IQIQ", 1, 1 << 50, 0, 0)
                + _name(b"t.counts")
                + struct.pack("<IQIQ", 1, 1, 0, 1 << 62),
                counts=(2, 0),
            ),
            "it ends too early",
        ),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_what_is_damaged_is_told_by_its_fault(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    assert words in _refusal(path)


def test_counts_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "")
    writer.add_tensor("t.in_sum2", np.ones(7, dtype=np.float32))
    writer.add_tensor("t.counts", np.ones(2, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "do not divide" in _refusal(tmp_path / "a.gguf")


def test_what_is_no_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "nothing"):
        assert "there is no file" in _refusal(tmp_path / name)
    model = write_imatrix(tmp_path / "a.gguf", SUMS, suffixes=(".weight", ".bias"))
    assert "it tells of no tensor" in _refusal(model)


@settings(max_examples=200, deadline=None)
@given(
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    cut=st.booleans(),
    is_old=st.booleans(),
)
def test_any_byte_may_be_another(place: float, value: int, cut: bool, is_old: bool) -> None:
    """It is read, or refused, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = (write_legacy_imatrix if is_old else write_imatrix)(Path(folder) / "a", SUMS)
        data = bytearray(path.read_bytes())
        here = int(place * len(data))
        data[here] = value
        path.write_bytes(data[:here] if cut else data)
        with contextlib.suppress(InvalidRequest):
            read = read_importance(path)
            assert all(np.isfinite(each).all() and (each >= 0).all() for each in read.values())


def _tensor(name: str, *shape: int) -> LoggedTensor:
    return LoggedTensor(1, 1, name, shape, "f32", "q4_0")


def test_a_matrix_fits_the_model_that_it_was_made_with(tmp_path: Path) -> None:
    importance = read_importance(write_imatrix(tmp_path / "a", SUMS))
    check_fits("a", importance, [_tensor("blk.0.attn_q.weight", 64, 9, 1, 1), _tensor("other", 5)])
    check_fits("a", importance, [_tensor("blk.0.ffn_up_exps.weight", 32, 9, 3, 1)])
    with pytest.raises(InvalidRequest, match="a tells of no tensor of this model") as caught:
        check_fits("a", importance, [_tensor("blk.7.attn_q.weight", 64, 9)])
    assert caught.value.param == "imatrix"
    with pytest.raises(
        InvalidRequest, match=r"96 columns of blk\.0\.ffn_up_exps\.weight, and the model has 128"
    ):
        check_fits("a", importance, [_tensor("blk.0.ffn_up_exps.weight", 32, 9, 4)])
    odd = {"token_embd.weight": importance["blk.0.attn_q.weight"]}
    check_fits("a", odd, [_tensor("token_embd.weight", 32, 9)])
