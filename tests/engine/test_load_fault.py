from __future__ import annotations

import pytest

from engine.load_fault import load_fault


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("error loading model: unknown model architecture: 'x'", "has the architecture 'x'"),
        ("error loading model: tensor 'a' data is not within the file bounds", "cut short"),
        ("ggml: failed to allocate CPU buffer of size 99", "too large for the memory"),
        ("gguf_init_from_file: failed to read key-value pairs", "damaged in its header"),
        ("error loading model: tensor 'a' not found", "is damaged (tensor 'a' not found)"),
        ("error loading model: failed to open /secret/place", "is damaged or of an architecture"),
        ("", "is damaged or of an architecture"),
    ],
)
def test_each_cause_has_its_sentence_and_no_path(line: str, words: str) -> None:
    told = load_fault("x.gguf", ["something else", line])
    assert told.startswith("x.gguf ")
    assert words in told
    assert "/secret" not in told
