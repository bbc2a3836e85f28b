"""The quantiser itself, on tiny models: what was foretold of a file's size is what it has."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import gguf
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from engine.errors import InsufficientDisk, InsufficientMemory, InvalidRequest, ModelLoadFailed
from engine.importance_matrix import Importance, read_importance
from engine.native import quantizer
from engine.quantization import PlannedTensor, _plan, estimated_bytes, quantization_fault
from engine.quantization_type import OFFERED_TYPES, QUANTIZATION_TYPES, QuantizationType
from engine.quantizer_log import QuantizerLog
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.fixtures.tiny_imatrix import sums_for, write_imatrix

_METADATA_BYTES = 4096
"""What llama.cpp's own keys may add to a file or take from it."""


@settings(max_examples=25, deadline=None)
@given(
    to=st.sampled_from(OFFERED_TYPES),
    width=st.sampled_from((32, 64, 96, 256)),
    layers=st.integers(1, 3),
    seed=st.integers(0, 3),
)
def test_the_estimate_is_the_size(to: str, width: int, layers: int, seed: int) -> None:
    kind = QUANTIZATION_TYPES[to]
    with tempfile.TemporaryDirectory() as folder:
        source = write_tiny(Path(folder) / "a.gguf", Tiny(width=width, layers=layers, seed=seed))
        target = Path(folder) / "b.gguf"
        succeeded, log = _quantize(source, None, kind)
        if not succeeded:
            fault = quantization_fault("a.gguf", to, log)
            assert isinstance(fault, InvalidRequest), "only a type that does not fit the rows is refused"
            return
        planned = _plan(log)
        assert _quantize(source, target, kind)[0]
        size = estimated_bytes(source.stat().st_size, planned.tensors)
        assert abs(target.stat().st_size - size) < _METADATA_BYTES
        written = {tensor.name: int(tensor.n_bytes) for tensor in _tensors(target)}
        assert {
            tensor.name: tensor.after_bytes for tensor in planned.tensors if tensor.name in written
        } == written


@pytest.mark.parametrize("to", QUANTIZATION_TYPES)
def test_a_type_makes_use_of_an_importance_matrix_or_says_so(tmp_path: Path, to: str) -> None:
    kind = QUANTIZATION_TYPES[to]
    source = write_tiny(tmp_path / "a.gguf", Tiny(width=256, layers=1))
    made: list[bytes] = []
    # Those that need one are slow to make, and what they make of it needs no proof.
    for seed in (1,) if kind.needs_importance else (1, 2):
        importance = read_importance(write_imatrix(tmp_path / "imatrix.gguf", sums_for(source, seed=seed)))
        succeeded, log = _quantize(source, tmp_path / "b.gguf", kind, importance)
        assert succeeded, log.cause
        made.append((tmp_path / "b.gguf").read_bytes())
        succeeded, planned = _quantize(source, None, kind, importance)
        assert _plan(planned, importance).tensors == _plan(log, importance).tensors
    succeeded, log = _quantize(source, tmp_path / "b.gguf", kind)
    assert succeeded is not kind.needs_importance
    if succeeded:
        assert (made[0] != made[1]) is kind.uses_importance
    else:
        assert "give one" in quantization_fault("a.gguf", to, log).message


def _quantize(
    source: Path, target: Path | None, kind: QuantizationType, importance: Importance | None = None
) -> tuple[bool, QuantizerLog]:
    return quantizer.quantize(
        str(source),
        str(target or ""),
        kind,
        threads=1,
        allow_requantize=True,
        is_dry=target is None,
        importance=importance,
    )


def _tensors(path: Path) -> list[gguf.gguf_reader.ReaderTensor]:
    try:
        return gguf.GGUFReader(path).tensors
    except ValueError:  # a type that is younger than the package that reads it
        return []


@given(
    st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=20),
    st.integers(0, 1 << 20),
)
def test_an_estimate_holds_metadata_and_padded_tensors(sizes: list[tuple[int, int]], metadata: int) -> None:
    tensors = [PlannedTensor("t", "f32", before, "q4_0", after) for before, after in sizes]
    whole = metadata + sum(-(-before // 32) * 32 for before, _ in sizes)
    after = sum(-(-after // 32) * 32 for _, after in sizes)
    assert estimated_bytes(whole, tensors) == metadata + after
    assert estimated_bytes(0, tensors) == after, "a damaged file makes no negative one"


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("this quantization requires an imatrix!", InvalidRequest, "importance matrix"),
        (
            "Missing importance matrix for tensor blk.0.attn_k.weight in a very low-bit quantization",
            InvalidRequest,
            "does not tell of blk.0.attn_k.weight, and Q4_0 needs that",
        ),
        ("requantizing from type q4_1 is disabled", InvalidRequest, "is quantised already"),
        ("no tensor type fallback is defined for type q1_0", InvalidRequest, "do not divide into blocks"),
        ("basic_ios::clear: iostream error", InsufficientDisk, "make room on the disk"),
        ("std::bad_alloc", InsufficientMemory, "free some"),
        ("tensor 'a' data is not within the file bounds", ModelLoadFailed, "fetch it again"),
        ("unknown model architecture: 'foo'", ModelLoadFailed, "architecture 'foo'"),
        ("", ModelLoadFailed, "fetch it again"),
    ],
)
def test_every_cause_has_its_error_and_its_mend(line: str, error: type[Exception], words: str) -> None:
    log = QuantizerLog()
    log.read(f"llama_model_quantize: failed to quantize: {line}\n", is_error=True)
    fault = quantization_fault("a.gguf", "Q4_0", log)
    assert type(fault) is error
    assert words in fault.message


def test_the_blocks_are_those_of_the_format() -> None:
    blocks = quantizer.tensor_blocks()
    known = {kind.name.lower(): size for kind, size in gguf.GGML_QUANT_SIZES.items() if kind.name != "Q8_1"}
    assert {name.lower(): size for name, size in blocks.items() if name.lower() in known} == known, (
        json.dumps(blocks)
    )
