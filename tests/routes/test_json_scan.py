from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from routes.json_scan import MAX_DEPTH, scan_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.booleans())
def test_every_valid_document_is_read_as_it_is(document: object, escapes: bool) -> None:
    assert scan_json(json.dumps(document, ensure_ascii=escapes).encode()) == document


@pytest.mark.parametrize(
    ("raw", "param", "words"),
    [
        (b"", None, "no body"),
        (b" \n", None, "no body"),
        (b"{", None, "not valid JSON"),
        (b"{'a': 1}", None, "not valid JSON"),
        (b'{"a": 1,}', None, "not valid JSON"),
        (b'{"a": 1} x', None, "not valid JSON"),
        (b'{"a": "\xff"}', None, "not UTF-8 (byte 7)"),
        ("\ufeff{}".encode(), None, "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), None, "not UTF-8"),
        (b'{"a": NaN}', "a", "finite"),
        (b'{"a": {"b": [0, -Infinity]}}', "a.b[1]", "finite"),
        (b'{"a": 1e999}', "a", "finite"),
        (b'{"a": ' + b"9" * 5000 + b"}", None, "digits"),
        (b'{"a": 1, "b": 2, "a": 3}', "a", "twice"),
        (b'{"m": [{"x": 1, "x": 1}]}', "m[0].x", "twice"),
        (b'{"m": ["\\ud83d"]}', "m[0]", "surrogate"),
        (b'{"m": "a\\uDc00b"}', "m", "surrogate"),
        (b'{"\\ud800": 1}', None, "surrogate"),
        (b'{"\\ud800": 1, "\\ud800": 1}', "?", "twice"),
        (b"[" * 100_000, None, "deeper"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), None, "deeper"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), None, "deeper"),
    ],
)
def test_what_is_not_strict_json_is_named(raw: bytes, param: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        scan_json(raw)
    assert caught.value.param == param
    assert words in caught.value.message


def test_the_deepest_allowed_nesting_passes() -> None:
    scan_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_width_and_brackets_in_strings_are_no_depth() -> None:
    many: list[object] = [[] for _ in range(1000)]
    document = {"a": "[" * 1000 + '"\\' * 100, "b": many}
    assert scan_json(json.dumps(document).encode()) == document


def test_pairs_of_surrogates_are_characters() -> None:
    assert scan_json(b'"\\ud83d\\ude00"') == "\U0001f600"
