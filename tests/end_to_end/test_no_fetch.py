"""Nothing that a request names is ever fetched or opened: a server that would be asked, and is not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
URL = "URL"
"""Stands for the address of the server that must not be asked."""


class Lure:
    """A server on loopback that notes who asks."""

    def __init__(self) -> None:
        lure = self
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                lure.asked.append(self.path)
                self.send_response(200)
                self.end_headers()

            do_HEAD = do_POST = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def lure() -> Iterator[Lure]:
    made = Lure()
    yield made
    made.close()


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": kind, **fields}]}], "max_tokens": 1}


def tool(parameters: dict[str, Any]) -> dict[str, Any]:
    function = {"name": "look", "parameters": parameters, "strict": True}
    return {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": function}],
        "max_tokens": 1,
    }


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "an image": (CHAT, part("image_url", image_url={"url": URL})),
    "an image as data": (CHAT, part("image_url", image_url={"url": "data:image/png;base64,AAAA"})),
    "an image in a file": (CHAT, part("image_url", image_url={"url": "file:///etc/passwd"})),
    "an image of another API": (CHAT, part("input_image", image_url=URL)),
    "audio": (CHAT, part("input_audio", input_audio={"data": URL, "format": "wav"})),
    "audio by address": (CHAT, part("audio_url", audio_url={"url": URL})),
    "video": (CHAT, part("video_url", video_url={"url": URL})),
    "a file": (CHAT, part("file", file={"file_data": URL, "file_id": URL})),
    "a search": (CHAT, {"messages": [{"role": "user", "content": URL}], "web_search_options": {}}),
    "a schema elsewhere": (TEXT, {"prompt": "x", "json_schema": {"$ref": URL}}),
    "a draft of schemas elsewhere": (
        TEXT,
        {"prompt": "x", "json_schema": {"$schema": URL, "type": "boolean"}},
    ),
    "a schema in a file": (TEXT, {"prompt": "x", "json_schema": {"$ref": "file:///etc/passwd"}}),
    "a tool's schema elsewhere": (CHAT, tool({"type": "object", "properties": {"a": {"$ref": URL}}})),
    "a model elsewhere": (TEXT, {"prompt": "x", "model": URL}),
    "a model in a file": (TEXT, {"prompt": "x", "model": "../../../../etc/passwd"}),
    "a model by its path": (TEXT, {"prompt": "x", "model": "/etc/passwd"}),
    "a model behind an encoded path": (TEXT, {"prompt": "x", "model": "..%2f..%2fetc%2fpasswd"}),
    "a model with an adapter in a file": (TEXT, {"prompt": "x", "model": f"{MODEL}:../../etc/passwd"}),
    "a template": (
        CHAT,
        {"messages": [{"role": "user", "content": "Hi"}], "chat_template": "{{ messages }}", "max_tokens": 1},
    ),
    "a template elsewhere": (
        CHAT,
        {"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"include": URL}},
    ),
}
ANSWERED: dict[str, tuple[str, dict[str, Any]]] = {
    "an address in a text": (TEXT, {"prompt": f"Read {URL} and tell", "max_tokens": 1}),
    "an address in a chat": (
        CHAT,
        {"messages": [{"role": "user", "content": f"![x]({URL})"}], "max_tokens": 1, "user": URL},
    ),
    "the name of a schema": (
        TEXT,
        {"prompt": "x", "max_tokens": 1, "json_schema": {"$id": URL, "title": URL, "type": "boolean"}},
    ),
}


@pytest.mark.parametrize("name", [*REFUSED, *ANSWERED])
def test_nothing_is_fetched(server: LiveServer, lure: Lure, name: str) -> None:
    path, body = (REFUSED | ANSWERED)[name]
    raw = server.http.build_request("POST", path, json={"model": MODEL, **body}).content
    answer = server.http.post(
        path,
        content=raw.replace(URL.encode(), lure.url.encode()),
        headers={"content-type": "application/json"},
    )
    if name in ANSWERED:
        assert answer.status_code == 200, answer.text[:500]
    else:
        assert answer.status_code in (400, 404), answer.text[:500]
        assert answer.json()["error"]["param"], answer.text[:500]
        assert "root:" not in answer.text
    assert lure.asked == []


def test_no_room_that_handles_requests_can_fetch() -> None:
    """The one client of HTTP below the composition root is that of pulls, which an operator asks for."""
    root = Path(__file__).resolve().parents[2]
    fetching = re.compile(
        r"^\s*(?:import|from) (?:httpx|urllib\.request|http\.client|requests|aiohttp)\b", re.MULTILINE
    )
    users = {
        str(file.relative_to(root))
        for room in ("engine", "generation", "model_registry", "routes")
        for file in (root / room).rglob("*.py")
        if fetching.search(file.read_text())
    }
    assert users
    assert all(user.startswith("model_registry/pull/") for user in users), users
