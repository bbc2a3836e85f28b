from __future__ import annotations

import json

import pytest

from generation.events import Finished, ReasoningDelta, Started, TextDelta, Timings, Usage
from routes.envelope import Envelope
from routes.openai.chat.encode import ChatEncoder
from routes.openai.completions.encode import CompletionEncoder

ENVELOPE = Envelope('chatcmpl-"1"', 1_700_000_000, 'a "quoted" \\ id', "fp_0")


def test_nothing_is_sent_for_nothing() -> None:
    encoder = ChatEncoder(ENVELOPE, include_usage=False, include_obfuscation=False)
    assert encoder.encode([Started(3)]) == b""
    assert encoder.encode([]) == b""
    assert encoder.end() == b"data: [DONE]\n\n"


def test_a_step_is_one_blob_of_whole_frames() -> None:
    encoder = CompletionEncoder(ENVELOPE, include_usage=False, include_obfuscation=False)
    blob = encoder.encode([TextDelta(1, 'x"\n\u2028\x00😀'), TextDelta(0, "y"), Finished(0, "stop", Usage())])
    *events, rest = blob.split(b"\n\n")
    assert rest == b""
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ['x"\n\u2028\x00😀', "y", ""]
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [1, 0, 0]
    assert {chunk["model"] for chunk in chunks} == {ENVELOPE.model}


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("encoder_class", [ChatEncoder, CompletionEncoder])
def test_obfuscation_hides_the_length_of_the_text(
    encoder_class: type[ChatEncoder | CompletionEncoder], include_usage: bool
) -> None:
    encoder = encoder_class(ENVELOPE, include_usage=include_usage, include_obfuscation=True)
    encoder.encode([TextDelta(0, "first")])
    blobs = [encoder.encode([TextDelta(0, "x" * length)]) for length in range(62)]
    assert len({len(blob) for blob in blobs[:62]}) == 1
    assert all("obfuscation" in json.loads(blob.removeprefix(b"data: ")) for blob in blobs)


def test_usage_is_the_sum_over_choices() -> None:
    encoder = ChatEncoder(ENVELOPE, include_usage=True, include_obfuscation=False)
    encoder.encode([Finished(0, "stop", Usage(5, 4, 2)), Finished(1, "length", Usage(0, 0, 3))])
    usage, done, _ = encoder.end().split(b"\n\n")
    assert done == b"data: [DONE]"
    assert json.loads(usage.removeprefix(b"data: "))["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 5,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@pytest.mark.parametrize("encoder_class", [ChatEncoder, CompletionEncoder])
def test_timings_come_with_the_end_where_they_are_asked_for(
    encoder_class: type[ChatEncoder | CompletionEncoder],
) -> None:
    end = Finished(0, "stop", Usage(), Timings(0.001, 0.02, 0.3, drafted_tokens=7, accepted_tokens=5))
    for with_timings in (True, False):
        envelope = Envelope("x", 0, "m", "fp", with_timings)
        encoder = encoder_class(envelope, include_usage=False, include_obfuscation=False)
        last = encoder.encode([end]).split(b"\n\n")[-2]
        choice = json.loads(last.removeprefix(b"data: "))["choices"][0]
        assert choice.get("timings") == (
            {
                "queue_ms": 1.0,
                "prefill_ms": 20.0,
                "decode_ms": 300.0,
                "drafted_tokens": 7,
                "accepted_tokens": 5,
                "forced_tokens": 0,
            }
            if with_timings
            else None
        )


@pytest.mark.parametrize("obfuscated", [False, True])
def test_reasoning_has_two_names_in_chat_and_none_in_completions(obfuscated: bool) -> None:
    chat = ChatEncoder(ENVELOPE, include_usage=False, include_obfuscation=obfuscated)
    blob = chat.encode([ReasoningDelta(0, 'h"m'), ReasoningDelta(0, "."), TextDelta(0, "a")])
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in blob.split(b"\n\n")[:-1]]
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": None, "refusal": None},
        {"reasoning_content": 'h"m', "reasoning": 'h"m'},
        {"reasoning_content": ".", "reasoning": "."},
        {"content": "a"},
    ]
    assert len({len(event) % 64 for event in blob.split(b"\n\n")[1:3]}) == (1 if obfuscated else 2)
    completions = CompletionEncoder(ENVELOPE, include_usage=False, include_obfuscation=obfuscated)
    assert completions.encode([ReasoningDelta(0, "hm")]) == b""
