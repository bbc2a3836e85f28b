"""Request bodies: strict JSON or a typed refusal, and never more than the standard allows."""

from __future__ import annotations

import json
import math

from engine.errors import InvalidRequest
from routes.json_scan import MAX_DEPTH, scan_json
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    try:
        tree = scan_json(data)
    except InvalidRequest as error:
        # The answer to the client is UTF-8.
        f"{error.message}{error.param}".encode()
        return
    text = data.decode()
    assert json.loads(text) == tree
    _check_value(tree, 0)
    # What any other parser of the standard would be given is what was read here.
    assert scan_json(json.dumps(tree, ensure_ascii=False).encode()) == tree


def _check_value(value: object, depth: int) -> None:
    match value:
        case dict():
            assert depth < MAX_DEPTH
            for key, item in value.items():
                key.encode()
                _check_value(item, depth + 1)
        case list():
            assert depth < MAX_DEPTH
            for item in value:
                _check_value(item, depth + 1)
        case str():
            value.encode()
        case float():
            assert math.isfinite(value)
        case _:
            assert value is None or isinstance(value, int)


TARGET = Target(
    "json-scan",
    "a body is strict JSON without NaN, surrogates, repeated keys or great depth, or refused with a typed error",
    check,
    seeds=(
        b'{"model":"m","messages":[{"role":"user","content":"\\u00fc \\ud83d\\ude42"}],"n":1.5e3}',
        b'[1,-0.0,1e308,"\\\\\\"",null,true,{"a":{"b":[]}}]',
        b"[" * 70 + b"]" * 70,
        b'{"a":' * 63 + b"1" + b"}" * 63,
    ),
    words=(
        *(b"NaN", b"-Infinity", b"1e999", b"\\ud800", b'\\u0000"', b"{", b"}", b"[[[[", b"]]]]", b'"a":1,'),
        *(b"\xef\xbb\xbf", b"\xed\xa0\x80", b"9" * 50, b"-", b'\\"', b"\\"),
    ),
)
