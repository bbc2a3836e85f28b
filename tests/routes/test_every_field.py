"""Every field of every body over every way to be wrong, through the app: served, or a 400 that names the field.

The fields come from the body classes, so that a new one is walked as soon as it is there. Bounds come from the
served document: one below, at, and one above each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from routes.document import document_of
from routes.wire_body import ModelBody
from tests.fakes.engine import EndingEngine
from tests.fakes.house import ADMIN_BODIES, BODIES, CHAT_PATH, JSON_HEADERS, PLAIN_BODIES, RERANK_PATH, House

ALL = {**BODIES, **PLAIN_BODIES, **ADMIN_BODIES}
DOCUMENT = document_of(House().app)
PATHS: dict[str, dict[str, Any]] = {
    path: item["post"]["requestBody"]["content"]["application/json"]["schema"]
    for path, item in DOCUMENT["paths"].items()
    if "post" in item
}
FIELDS = [(path, name) for path, schema in PATHS.items() for name in schema["properties"]]

SERVED = (200, 202)
HUGE = "x" * 50_000
WRONG: list[object] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, "", "x", HUGE,
    [], [[]], [None], [1], [-1], ["x"], [""], [{}], [[1], ["x"]], ["x", 1], ["x"] * 3_000, {}, {"x": 1}, {"text": ""},
]  # fmt: skip
RAW = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b'"\\ud800"',
    b'["\\udfff"]',
    b'{"\\ud800": 1}',
    b"[" * 50 + b"]" * 50,
]


def test_every_path_has_a_sound_body_here() -> None:
    assert PATHS.keys() == ALL.keys()


@pytest.fixture
async def client() -> Any:
    async with House(EndingEngine()).client() as client:
        yield client


async def check(client: httpx.AsyncClient, path: str, name: str, raw: bytes) -> int:
    """Send ``raw`` as field ``name`` of a sound body; the status, which is one of two."""
    rest = {key: value for key, value in ALL[path].items() if key != name}
    body = json.dumps(rest | {name: "MARK"}).encode().replace(b'"MARK"', raw)
    reply = await client.post(path, content=body, headers=JSON_HEADERS)
    if reply.status_code == 404 and name == "model":
        assert reply.json()["error"]["code"] == "model_not_found"
    elif reply.status_code not in SERVED:
        assert reply.status_code == 400, (raw[:80], reply.text[:300])
        error = reply.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["param"] or "").partition("[")[0].partition(".")[0] == name, (raw[:80], error)
        assert len(error["message"]) < 500
    return reply.status_code


@pytest.mark.parametrize(("path", "name"), FIELDS)
async def test_every_field(client: httpx.AsyncClient, path: str, name: str) -> None:
    for value in WRONG:
        await check(client, path, name, json.dumps(value).encode())
    for raw in RAW:
        assert await check(client, path, name, raw) == 400, raw
    twice = json.dumps(ALL[path] | {name: None}).encode()[:-1] + f', "{name}": null}}'.encode()
    reply = await client.post(path, content=twice, headers=JSON_HEADERS)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize(("path", "name"), [(p, n) for p, s in PATHS.items() for n in s.get("required", ())])
async def test_required_fields_are_required(client: httpx.AsyncClient, path: str, name: str) -> None:
    body = {key: value for key, value in ALL[path].items() if key != name}
    reply = await client.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize("path", PATHS)
async def test_unknown_fields_are_refused(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.post(path, json=ALL[path] | {"nibbles": 1})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "nibbles")


def bounds(schema: dict[str, Any]) -> Iterator[tuple[object, bool]]:
    """Values at and past each bound of one field, and whether they are within. Only of what is simple."""
    for branch in schema.get("anyOf", schema.get("oneOf", [schema])):
        is_whole = branch.get("type") == "integer"
        step = 1 if is_whole else 0.001
        # FastAPI makes fractions of all bounds, and of the largest whole numbers so others.
        branch = {
            key: int(item) if is_whole and isinstance(item, float) else item
            for key, item in branch.items()
            if not isinstance(item, float) or abs(item) < 2**53
        }
        if "minimum" in branch:
            yield from ((branch["minimum"], True), (branch["minimum"] - step, False))
        if "maximum" in branch:
            yield from ((branch["maximum"], True), (branch["maximum"] + step, False))
        if "exclusiveMinimum" in branch:
            yield from ((branch["exclusiveMinimum"] + step, True), (branch["exclusiveMinimum"], False))
        if branch.get("type") == "string" and "enum" not in branch:
            if "maxLength" in branch:
                yield from (("x" * branch["maxLength"], True), ("x" * (branch["maxLength"] + 1), False))
            if branch.get("minLength") == 1:
                yield from (("x", True), ("", False))
        if branch.get("type") == "array" and branch.get("items", {}).get("type") == "string":
            item = "x" * branch["items"].get("minLength", 1)
            if "maxItems" in branch:
                yield from (([item] * branch["maxItems"], True), ([item] * (branch["maxItems"] + 1), False))
            if "minItems" in branch:
                yield [], False


BOUNDED = [(path, name) for path, name in FIELDS if list(bounds(PATHS[path]["properties"][name]))]
DEPENDENT = {
    "imatrix",
    "min_tokens",
    "logprobs",
    "top_logprobs",
    "best_of",
    "grammar",
    "regex",
    "lark",
    "mirostat",
    "max_tokens",
    "path",
    "to",
    "name",
    "types",
    "apply",
}
"""Fields whose values within their own bounds can be wrong beside others, or in what they say."""


@pytest.mark.parametrize(("path", "name"), BOUNDED)
async def test_documented_bounds_are_the_bounds(client: httpx.AsyncClient, path: str, name: str) -> None:
    for value, is_within in bounds(PATHS[path]["properties"][name]):
        status = await check(client, path, name, json.dumps(value).encode())
        if not is_within:
            assert status == 400, value
        elif name not in DEPENDENT:
            assert status in SERVED or (status == 404 and name == "model"), value


def nested(schema: dict[str, Any], sound: object, at: tuple[str | int, ...] = ()) -> Iterator[Place]:
    """Every field inside of ``sound``, a value that ``schema`` allows, with the schema of that field."""
    if branches := schema.get("anyOf", schema.get("oneOf")):
        for branch in branches:
            yield from nested(branch, sound, at)
        return
    if isinstance(sound, dict) and schema.get("type") == "object":
        kind = schema.get("properties", {})
        if all(fits(inner, sound[key]) for key, inner in kind.items() if key in sound):
            for key, inner in kind.items():
                if at:
                    yield (*at, key), inner, key in schema.get("required", ())
                if key in sound:
                    yield from nested(inner, sound[key], (*at, key))
    elif isinstance(sound, list) and schema.get("type") == "array" and sound:
        yield from nested(schema["items"], sound[0], (*at, 0))


def fits(schema: dict[str, Any], value: object) -> bool:
    """Whether a field that tells kinds apart has the word for this kind."""
    words = [schema["const"]] if "const" in schema else schema.get("enum", [value])
    return value in words


Place = tuple[tuple[str | int, ...], dict[str, Any], bool]
_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_LOOK = {"type": "function", "function": {"name": "look", "parameters": {}, "strict": True}}
_SAID: list[dict[str, object]] = [
    {"role": "system", "content": [{"type": "text", "text": "x"}]},
    {"role": "user", "content": "x", "name": "x"},
    {"role": "assistant", "content": "x", "tool_calls": [_CALL]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]},
    {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
]
_SCHEMA = {"name": "x", "schema": {"type": "object"}}
_SAYING: list[tuple[str, dict[str, object]]] = [(CHAT_PATH, {"messages": [each]}) for each in _SAID]
DEEP: list[tuple[str, dict[str, object]]] = [
    *_SAYING,
    (CHAT_PATH, {"tools": [_LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}}),
    (
        CHAT_PATH,
        {
            "tools": [_LOOK],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "look"}}],
                },
            },
        },
    ),
    (CHAT_PATH, {"functions": [{"name": "look"}], "function_call": {"name": "look"}}),
    (CHAT_PATH, {"response_format": {"type": "json_schema", "json_schema": _SCHEMA}}),
    (CHAT_PATH, {"prediction": {"type": "content", "content": [{"type": "text", "text": "x"}]}}),
    (CHAT_PATH, {"chat_template_kwargs": {"thinking_budget": 1}}),
    (CHAT_PATH, {"stream": True, "stream_options": {"include_usage": True}}),
    (RERANK_PATH, {"documents": [{"text": "x"}]}),
]
"""Sound values of the fields that have fields."""


def put(value: object, at: tuple[str | int, ...], mark: object) -> object:
    """A copy of ``value`` with ``mark`` in a place."""
    if not at:
        return mark
    step, *rest = at
    if isinstance(value, list):
        return [put(item, tuple(rest), mark) if index == step else item for index, item in enumerate(value)]
    assert isinstance(value, dict)
    return value | {step: put(value.get(step), tuple(rest), mark)}


def twice(value: object, at: tuple[str | int, ...]) -> bytes:
    """The JSON of ``value`` with the field in a place given twice."""
    mark = f'"MARK": null, "{at[-1]}": null, "{at[-1]}": null'
    *outer, _ = at
    text = json.dumps(put(value, (*outer, "MARK"), None))
    return text.replace('"MARK": null', mark.removeprefix('"MARK": null, '), 1).encode()


@pytest.mark.parametrize(
    ("path", "extra"), DEEP, ids=lambda item: "-".join(item) if isinstance(item, dict) else ""
)
async def test_every_field_within_a_field(
    client: httpx.AsyncClient, path: str, extra: dict[str, object]
) -> None:
    sound = {key: ALL[path][key] for key in ALL[path] if key not in extra} | extra
    assert (await client.post(path, json=sound)).status_code == 200
    places = [place for place in nested(PATHS[path], sound) if place[0][0] in extra]
    assert places
    for at, schema, is_required in places:
        within = [(value, is_in) for value, is_in in bounds(schema) if not is_in]
        raws = [json.dumps(value).encode() for value in WRONG] + [
            json.dumps(value).encode() for value, _ in within
        ]
        for raw in [*raws, *RAW]:
            body = json.dumps(put(sound, at, "MARK")).encode().replace(b'"MARK"', raw, 1)
            status = await refused_within(client, path, at, body)
            if raw in RAW and raw != RAW[-1]:
                assert status == 400, (at, raw)
        for value, _ in within:
            body = json.dumps(put(sound, at, value)).encode()
            assert await refused_within(client, path, at, body) == 400, (at, value)
        error = (await client.post(path, content=twice(sound, at), headers=JSON_HEADERS)).json()["error"]
        assert error["param"] == dotted(at), error
        if is_required:
            *outer, name = at
            holder: Any = sound
            for step in outer:
                holder = holder[step]
            left = {key: item for key, item in holder.items() if key != name}
            body = json.dumps(put(sound, tuple(outer), left)).encode()
            assert await refused_within(client, path, at, body) == 400, at


def dotted(at: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).removeprefix(".")


async def refused_within(client: httpx.AsyncClient, path: str, at: tuple[str | int, ...], body: bytes) -> int:
    """The status of ``body``. A refusal names a field of those that the place is in, or of what depends on them."""
    reply = await client.post(path, content=body, headers=JSON_HEADERS)
    assert reply.status_code in (200, 400), (at, body[:300], reply.text[:300])
    if reply.status_code == 400:
        error = reply.json()["error"]
        related = {str(at[0]), *({"tools", "tool_choice"} if at[0] in ("tools", "tool_choice") else ())}
        related |= {"functions", "function_call"} if at[0] in ("functions", "function_call") else set()
        named = (error["param"] or "").partition("[")[0].partition(".")[0]
        assert named in related, (at, body[:300], error)
        assert len(error["message"]) < 500
    return reply.status_code


def test_every_body_that_names_a_model_does_so_in_the_same_words() -> None:
    fields = [schema["properties"]["model"] for schema in PATHS.values() if "model" in schema["properties"]]
    described = {json.dumps(field, sort_keys=True) for field in fields}
    assert len(described) == 2, "required, or left out where there is only one"
    assert "model" in ModelBody.model_fields
