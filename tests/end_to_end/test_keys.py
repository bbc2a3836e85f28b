"""Keys on a real server with the bundled model: what one has asked helps no other, and commands work beside it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.server.nibble_process import run_nibble

pytestmark = pytest.mark.model

PROMPT = "The quick brown fox jumps over the lazy dog, and " * 12


def create(home: Path, *arguments: str) -> str:
    made = run_nibble(home, "key", "create", *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def complete(server: LiveServer, key: str) -> httpx.Response:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    return server.http.post("/v1/completions", json=body, headers={"authorization": f"Bearer {key}"})


def cached_tokens(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def test_a_cached_prompt_serves_its_own_key_alone(tmp_path: Path) -> None:
    alice, bob = (
        create(tmp_path, "alice"),
        create(tmp_path, "bob", "--scope", "admin", "--scope", "inference"),
    )
    with LiveServer(tmp_path, "--context", "1024", "--parallel", "4") as server:
        server.ready()
        first = complete(server, alice)
        assert cached_tokens(first) == 0
        assert cached_tokens(complete(server, alice)) > 50
        other = complete(server, bob)
        assert cached_tokens(other) == 0
        assert other.json()["choices"][0]["text"] == first.json()["choices"][0]["text"]
        rows = server.http.get("/admin/v1/usage", headers={"x-api-key": bob}).json()["data"]
        assert {row["key"]: row["requests"] for row in rows} == {"alice": 2, "bob": 1}
        told = run_nibble(tmp_path, "usage", "--json", "--key", "alice")
        (row,) = json.loads(told.stdout)
        assert row["prompt_tokens"] == 2 * first.json()["usage"]["prompt_tokens"]
