"""Frames: they come back equal, however the bytes are cut, and an impossible length is refused at once."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from engine import frames
from engine.adapter import Adapter
from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.errors import ErrorRecord
from engine.events import Accepted, Finish, Piece
from engine.prompt import ChatMessage, ChatPrompt, TextPrompt, TokenPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams

_number = st.integers(0, 2**53)
_text = st.text(max_size=20)
_seconds = st.floats(0, 1e9)
_errors = st.builds(ErrorRecord, _text, _text, st.none() | _text, st.none() | _seconds)
_failures = st.builds(frames.Failure, _number, _errors)
_finishes = st.builds(
    Finish, st.sampled_from(["stop", "length"]), _number, _number, _number, _seconds, _seconds, _seconds
)
_pieces = st.builds(Piece, _number, _number, _text, _number, st.none() | _finishes)
_stats = st.builds(EngineStats, _number, _number, _number, _number, _number, _number, _number, _number)
_messages = st.builds(ChatMessage, role=_text, content=_text, name=st.none() | _text)
_prompts = st.one_of(
    st.builds(ChatPrompt, st.lists(_messages, max_size=3).map(tuple)),
    st.builds(TextPrompt, _text),
    st.builds(TokenPrompt, st.lists(_number, max_size=5).map(tuple)),
)
_sampling = st.builds(
    SamplingParams,
    temperature=st.floats(0, 2),
    top_k=_number,
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    logit_bias=st.dictionaries(st.integers(-(2**31), 2**31), st.floats(-100, 100), max_size=4),
)
_requests = st.builds(
    EngineRequest,
    prompts=st.lists(_prompts, min_size=1, max_size=3).map(tuple),
    n=st.integers(1, 128),
    max_tokens=st.none() | _number,
    stop=st.lists(_text, max_size=4).map(tuple),
    sampling=_sampling,
    request_id=_text,
)
_configs = st.builds(
    EngineConfig,
    model_id=_text,
    model_path=_text,
    context=st.none() | _number,
    gpu_layers=st.none() | _number,
)
_facts = st.builds(
    ModelFacts,
    load_s=_seconds,
    **{name: _number for name in ModelFacts.__struct_fields__ if ModelFacts.__annotations__[name] == "int"},
)
_to_worker = st.one_of(
    st.builds(frames.Configure, _configs),
    st.builds(frames.Submit, _number, _requests),
    st.builds(frames.Cancel, _number),
    st.builds(frames.LoadAdapter, _number, st.builds(Adapter, _text, _text, _seconds, _text)),
    st.builds(frames.DropAdapter, _number, _text),
)
_from_worker = st.one_of(
    st.builds(frames.Ready, _facts),
    st.builds(frames.LoadFailed, _errors),
    st.builds(frames.Admitted, st.builds(Accepted, _number, _number)),
    st.builds(frames.Refused, _failures),
    st.builds(frames.Adapted, _number),
    st.builds(frames.StepReport, st.lists(_pieces, max_size=4), st.lists(_failures, max_size=2), _stats),
)


def _body(raw: bytes) -> bytes:
    (body,) = frames.FrameSplitter().feed(raw)
    return body


@settings(deadline=None)
@given(_to_worker)
def test_frames_to_the_worker_come_back_equal(frame: frames.ToWorker) -> None:
    assert frames.decode_to_worker(_body(frames.encode(frame))) == frame


@settings(deadline=None)
@given(_from_worker)
def test_frames_from_the_worker_come_back_equal(frame: frames.FromWorker) -> None:
    assert frames.decode_from_worker(_body(frames.encode(frame))) == frame


@settings(deadline=None, max_examples=300)
@given(bodies=st.lists(st.binary(max_size=30), max_size=6), cuts=st.lists(st.integers(0, 250), max_size=12))
def test_bytes_cut_anywhere_give_the_same_frames(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames.HEADER.pack(len(body)) + body for body in bodies)
    splitter = frames.FrameSplitter()
    found: list[bytes] = []
    at = 0
    for edge in [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]:
        found += splitter.feed(stream[at:edge])
        at = edge
    assert found == bodies
    assert splitter.feed(b"") == []


def test_an_impossible_length_is_refused_before_its_body_comes() -> None:
    splitter = frames.FrameSplitter()
    with pytest.raises(ValueError, match="past the limit"):
        splitter.feed(frames.HEADER.pack(frames.MAX_FRAME_BYTES + 1))


def test_a_frame_past_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
    with pytest.raises(ValueError, match="past the limit of 100"):
        frames.encode(frames.LoadFailed(ErrorRecord("internal_error", "x" * 100)))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"type": "nothing"})])
def test_a_body_that_is_no_frame_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        frames.decode_to_worker(body)


def test_a_frame_of_the_other_direction_is_not_understood() -> None:
    body = _body(frames.encode(frames.Cancel(1)))
    with pytest.raises(msgspec.ValidationError):
        frames.decode_from_worker(body)
