"""The quantiser's log, in whatever pieces it comes."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from engine.quantizer_log import LoggedTensor, QuantizerLog

_LOG = """\
llama_model_loader: - kv  17:                          general.file_type u32              = 3
[   1/   3] output_norm.weight                   - [   576,      1,      1,      1], type =    f32, size =    0.002 MiB
[   2/   3] blk.27.attn_k.weight                 - [   576,    192,      1,      1], type =   q4_1, \
converting to q5_0 .. size =     0.07 MiB ->     0.07 MiB
[   3/   3] blk.27.attn_v.weight                 - [   576,    192,      1,      1], type =   q4_1, \
size =     0.07 MiB ->     0.11 MiB (q8_0)
llama_model_quantize_impl: WARNING: 2 of 3 tensor(s) required fallback quantization
"""
_TENSORS = [
    LoggedTensor(1, 3, "output_norm.weight", (576, 1, 1, 1), "f32", "f32"),
    LoggedTensor(2, 3, "blk.27.attn_k.weight", (576, 192, 1, 1), "q4_1", "q5_0"),
    LoggedTensor(3, 3, "blk.27.attn_v.weight", (576, 192, 1, 1), "q4_1", "q8_0"),
]


@given(st.lists(st.integers(0, len(_LOG)), max_size=30))
def test_pieces_make_the_same_lines(cuts: list[int]) -> None:
    log, ends = QuantizerLog(), 0
    places = sorted({0, *cuts, len(_LOG)})
    for start, end in itertools.pairwise(places):
        ends += log.read(_LOG[start:end])
    assert (log.tensors, log.file_type, log.fallbacks) == (_TENSORS, 3, 2)
    assert 1 <= ends <= 3


def test_sizes_are_whole_blocks() -> None:
    assert _TENSORS[1].size_bytes((32, 22)) == 576 * 192 // 32 * 22
    assert LoggedTensor(1, 1, "odd", (33, 1), "q8_0", "q8_0").size_bytes((32, 34)) == 68


def test_a_cause_is_heard_in_the_middle_of_a_tensor_s_line() -> None:
    """A disk that was full then was once told as a damaged file."""
    log = QuantizerLog()
    assert not log.read(
        "[   9/  21] blk.0.ffn_down.weight - [   128,     64,      1,      1], type =    f32, converting to q8_0 .. "
        "llama_model_quantize: failed to quantize: basic_ios::clear: iostream error\n"
    )
    assert (log.cause, log.tensors) == ("basic_ios::clear: iostream error", [])


def test_the_cause_is_heard() -> None:
    log = QuantizerLog()
    log.read("llama_model_quantize: failed to quantize: tensor 'x' is missing\n", is_error=True)
    assert (log.cause, log.errors) == (
        "tensor 'x' is missing",
        ["llama_model_quantize: failed to quantize: tensor 'x' is missing"],
    )


@given(st.text(alphabet="[]/-, 0123456789type=kv\n:.->()", max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    QuantizerLog().read(text)


def test_a_line_goes_on_behind_what_the_importance_matrix_does_not_tell() -> None:
    log, ends = QuantizerLog(), 0
    for piece in (
        "[   1/  21] token_embd.weight - [    64,    260,      1,      1], type =    f32, ",
        "\n====== llama_model_quantize_impl: did not find weights for token_embd.weight\n",
        "converting to q8_0 .. ",
        "size =     0.07 MiB ->     0.07 MiB\n",
    ):
        ends += log.read(piece)
    assert ends == 1
    assert log.tensors == [LoggedTensor(1, 21, "token_embd.weight", (64, 260, 1, 1), "f32", "q8_0")]
