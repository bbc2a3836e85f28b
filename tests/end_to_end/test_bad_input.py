"""Input that no client of good will sends: each is refused with its reason, and the server serves on."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def chat_with(field: str) -> str:
    """The JSON text of a sound chat with one more field, which need not be sound."""
    sound = json.dumps({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]})
    return f"{sound[:-1]}, {field}}}"


def messages(text: str) -> str:
    return f'{{"model": "{MODEL}", "max_tokens": 1, "messages": {text}}}'


BODIES: dict[str, tuple[str, str | bytes, str | None]] = {
    "nothing": (CHAT, "", None),
    "no JSON": (CHAT, "{'model': 1}", None),
    "cut off": (CHAT, chat_with('"n": 1')[:-9], None),
    "trailing text": (CHAT, chat_with('"n": 1') + "}", None),
    "no object": (CHAT, "[]", None),
    "no UTF-8": (CHAT, b'{"model": "\xff"}', None),
    "a key twice": (CHAT, chat_with('"model": "x"'), "model"),
    "NaN": (CHAT, chat_with('"temperature": NaN'), "temperature"),
    "infinity": (CHAT, chat_with('"temperature": 1e999'), "temperature"),
    "NaN in a bias": (CHAT, chat_with('"logit_bias": {"5": NaN}'), "logit_bias.5"),
    "a number as text": (CHAT, chat_with('"temperature": "warm"'), "temperature"),
    "a fraction for a count": (CHAT, chat_with('"n": 1.5'), "n"),
    "a truth for a count": (CHAT, chat_with('"n": true'), "n"),
    "an enormous integer": (CHAT, chat_with(f'"seed": {"9" * 400}'), "seed"),
    "more digits than a number has": (CHAT, chat_with(f'"seed": {"9" * 5000}'), None),
    "an unknown field": (CHAT, chat_with('"nibbles": 2'), "nibbles"),
    "deep nesting": (CHAT, chat_with(f'"metadata": {"[" * 5000}{"]" * 5000}'), None),
    "deeper than any parser": (CHAT, "[" * 200_000, None),
    "no messages": (CHAT, messages("[]"), "messages"),
    "messages of null": (CHAT, messages("null"), "messages"),
    "a message without role": (CHAT, messages('[{"content": "Hi"}]'), "messages[0].role"),
    "an unknown role": (CHAT, messages('[{"role": "king", "content": "Hi"}]'), "messages[0].role"),
    "content of null": (CHAT, messages('[{"role": "user", "content": null}]'), "messages[0].content"),
    "half a surrogate pair": (
        CHAT,
        messages(r'[{"role": "user", "content": "\ud83d"}]'),
        "messages[0].content",
    ),
    "half a pair in a stop": (CHAT, chat_with(r'"stop": "\udc00"'), "stop"),
    "half a pair as a key": (CHAT, chat_with(r'"\udc00": 1'), None),
    "half a pair in the model": (CHAT, '{"model": "\\ud83d", "messages": []}', "model"),
    "an image": (
        CHAT,
        messages('[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]'),
        "messages[0].content[0].type",
    ),
    "no prompt": (TEXT, f'{{"model": "{MODEL}"}}', "prompt"),
    "a list of nothing": (TEXT, f'{{"model": "{MODEL}", "prompt": []}}', "prompt"),
    "mixed prompts": (TEXT, f'{{"model": "{MODEL}", "prompt": ["a", 1]}}', "prompt[1]"),
    "a token below zero": (TEXT, f'{{"model": "{MODEL}", "prompt": [-1]}}', "prompt[0]"),
    "a token past the vocabulary": (TEXT, f'{{"model": "{MODEL}", "prompt": [49152]}}', "prompt"),
    "a token past every integer": (TEXT, f'{{"model": "{MODEL}", "prompt": [{2**70}]}}', "prompt[0]"),
}


@pytest.mark.parametrize(("path", "body", "param"), BODIES.values(), ids=BODIES)
def test_bad_input_is_a_typed_400_and_the_server_serves_on(
    server: LiveServer, path: str, body: str | bytes, param: str | None
) -> None:
    response = server.http.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]
    assert server.answers()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_a_body_that_is_not_announced_as_json_is_refused(server: LiveServer, content_type: str) -> None:
    """A web page can send a form to any address without asking; JSON it cannot."""
    response = server.http.post(CHAT, content=messages("[]"), headers={"content-type": content_type})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_body_over_the_limit_is_refused(server: LiveServer) -> None:
    response = server.http.post(
        TEXT, content=b'"' + b"a" * 5_000_000, headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert server.answers()


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example"])
def test_a_foreign_host_is_refused(server: LiveServer, host: str) -> None:
    response = server.http.get("/v1/models", headers={"host": host})
    assert 400 <= response.status_code < 500
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_text_that_overflows_a_usual_stack_is_read(server: LiveServer) -> None:
    """llama.cpp's pre-tokeniser recurses per character of a run of one letter."""
    body = {"prompt": "a" * 50_000, "max_tokens": 1}
    error = server.post(TEXT, body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert server.answers()
