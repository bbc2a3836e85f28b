"""Reading JSON as strictly as its standard: what lenient parsers let through is named and refused here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from engine.errors import InvalidRequest
from routes.field_path import Step, field_path

MAX_DEPTH = 64

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Duplicate:
    """Stands in the parsed tree where an object names one key twice."""

    def __init__(self, key: str) -> None:
        self.key = key


class _Scan:
    """One parse. The hooks only note that something is wrong; to find where takes a walk, for such bodies."""

    def __init__(self) -> None:
        self.is_suspect = False

    def constant(self, name: str) -> float:
        self.is_suspect = True
        return float(name.replace("Infinity", "inf"))

    def number(self, digits: str) -> float:
        value = float(digits)
        self.is_suspect |= math.isinf(value)
        return value

    def object(self, pairs: list[tuple[str, object]]) -> object:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.is_suspect = True
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                return _Duplicate(key)
            seen.add(key)
        return found


def scan_json(raw: bytes) -> object:
    """The parsed document. Raises InvalidRequest for anything that is not strict JSON in UTF-8.

    Refused beyond bad syntax: NaN, infinities and numbers too large for a float, lone surrogates,
    a key given twice, and nesting over ``MAX_DEPTH``. ``param`` names the place where it can.
    """
    if not raw.strip():
        raise InvalidRequest("The request has no body. Send a JSON object.")
    scan = _Scan()
    try:
        tree: object = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=scan.object,
            parse_constant=scan.constant,
            parse_float=scan.number,
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise InvalidRequest("The body holds an integer of more digits than a number can have.") from None
    if _is_too_deep(raw):
        raise _too_deep()
    if scan.is_suspect or _SURROGATE_ESCAPE.search(raw):
        _refuse_first_fault(tree)
    return tree


def _is_too_deep(raw: bytes) -> bool:
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        # Each pass takes the innermost level off, at the speed of C.
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not brackets:
            return False
    return True


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _refuse_first_fault(tree: object) -> None:
    for steps, value in _walk(tree, ()):
        param = field_path(steps) or None
        if isinstance(value, _Duplicate):
            key = value.key.encode("utf-8", "replace").decode()
            raise InvalidRequest(f"The key '{key}' is given twice.", param=field_path((*steps, key)))
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRequest(f"'{param}': not a finite number.", param=param)
        if isinstance(value, str) and _SURROGATE.search(value):
            raise InvalidRequest(
                f"'{param}': holds half of a surrogate pair, which is no character.", param=param
            )


def _walk(value: object, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], object]]:
    """Every value with its place; a key that is no text comes as a value at the place of its object."""
    yield steps, value
    if isinstance(value, dict):
        for key, item in value.items():
            if _SURROGATE.search(key):
                yield steps, key
            else:
                yield from _walk(item, (*steps, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*steps, index))
