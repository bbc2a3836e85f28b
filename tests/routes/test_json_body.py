from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest

from engine.errors import InvalidRequest, UnsupportedField
from routes.json_body import validate
from routes.openai.chat.body import ChatCompletionBody
from routes.request_policy import RequestPolicy
from tests.fakes.house import CHAT_BODY, CHAT_PATH, House


def check(body: object, *, strict: bool = True) -> tuple[str, ...]:
    return validate(json.dumps(body).encode(), ChatCompletionBody, strict=strict).ignored


@pytest.mark.parametrize(
    ("extra", "param", "words"),
    [
        ({"foo": 1}, "foo", "does not know"),
        ({"stream_options": {"foo": 1}}, "stream_options.foo", "does not know"),
        ({"messages": [{"role": "user", "content": "x", "foo": 1}]}, "messages[0].foo", "does not know"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
        ({"messages": [{"role": "x", "content": "x"}]}, "messages[0].role", "'system'"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content",
            "string or should be a valid list",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "required",
        ),
        ({"messages": {}}, "messages", "list"),
        ({"stop": ["a", ""]}, "stop[1]", "at least 1"),
        ({"stop": list("abcde")}, "stop", "at most 4"),
    ],
)
def test_the_place_is_named_as_openai_names_it(extra: dict[str, object], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(CHAT_BODY | extra)
    assert caught.value.param == param
    assert words in caught.value.message
    assert caught.value.message.startswith(f"'{param}': ")


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_is_known_and_not_served_says_so(extra: dict[str, object], param: str) -> None:
    for strict in (True, False):
        with pytest.raises(UnsupportedField) as caught:
            check(CHAT_BODY | extra, strict=strict)
        assert caught.value.param == param


def test_an_error_does_not_repeat_what_the_user_wrote() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(CHAT_BODY | {"user": ["my secret"]})
    assert "secret" not in caught.value.message


def test_lenient_ignores_unknown_fields_and_names_them_all() -> None:
    messages = [{"role": "user", "content": "x", "a": 1}, {"role": "user", "content": "y", "b": 1}]
    body = {"model": "m", "messages": messages, "foo": None, "bar": 1}
    assert sorted(check(body, strict=False)) == ["bar", "foo", "messages[0].a", "messages[1].b"]


def test_lenient_is_lenient_about_nothing_else() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(CHAT_BODY | {"foo": 1, "n": 0}, strict=False)
    assert caught.value.param == "n"


def test_ignoring_has_an_end() -> None:
    with pytest.raises(InvalidRequest):
        check(CHAT_BODY | {f"field_{index}": 1 for index in range(65)}, strict=False)


def test_fields_have_a_bound_before_each_is_looked_at() -> None:
    with pytest.raises(InvalidRequest, match="The body has more than 128 fields") as caught:
        check({str(index): 1 for index in range(1000)}, strict=False)
    assert caught.value.param is None


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null"])
def test_the_body_is_an_object(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        validate(raw, ChatCompletionBody, strict=True)


async def test_lenient_answers_name_the_ignored_fields() -> None:
    house = House(policy=RequestPolicy(strict=False))
    for stream in (False, True):
        answer = await house.post(CHAT_PATH, CHAT_BODY | {"stream": stream, "foo": 1, "ümlaut": 1})
        assert answer.status_code == 200
        assert answer.headers["x-nibble-ignored-fields"] == "foo, \\xfcmlaut"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ('application/json; charset="utf-8"', 200),
        ("application/json; charset=utf-16", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
async def test_only_json_is_read(content_type: str, status: int) -> None:
    headers = {"content-type": content_type} if content_type else {}
    async with House().client() as client:
        answer = await client.post(CHAT_PATH, content=json.dumps(CHAT_BODY), headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.json()["error"]["code"] == "unsupported_media_type"


async def post_parts(house: House, parts: Iterable[bytes] | AsyncIterator[bytes]) -> httpx.Response:
    async with house.client() as client:
        return await client.post(CHAT_PATH, content=parts, headers={"content-type": "application/json"})


async def test_a_body_over_the_limit_is_413_declared_or_not() -> None:
    raw = json.dumps(CHAT_BODY).encode()
    house = House(policy=RequestPolicy(max_body_bytes=len(raw)))
    assert (await house.post(CHAT_PATH, raw)).status_code == 200

    async def parts() -> AsyncIterator[bytes]:
        yield raw
        yield b" "

    for answer in (await house.post(CHAT_PATH, raw + b" "), await post_parts(house, parts())):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
    assert house.telemetry.last.ends == ["request_too_large"]


async def test_a_body_that_does_not_come_is_408() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    answer = await post_parts(House(policy=RequestPolicy(body_timeout_s=0.01)), parts())
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == "body_timeout"


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br", 415), ("identity", 200)])
async def test_a_body_that_is_packed_is_refused_by_what_it_is(encoding: str, status: int) -> None:
    content = json.dumps(CHAT_BODY).encode()
    headers = {"content-type": "application/json", "content-encoding": encoding}
    async with House().client() as client:
        answer = await client.post(CHAT_PATH, content=content, headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert f"content-encoding: {encoding}" in answer.json()["error"]["message"]
