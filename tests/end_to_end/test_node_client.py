"""OpenAI's own npm client against the real server: the checks themselves are in ``check.mjs``."""

from __future__ import annotations

import subprocess

import pytest

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.node import NODE_FOLDER, find_node
from tests.end_to_end.patience import PATIENCE_S, eventually

pytestmark = [pytest.mark.model, pytest.mark.node]

CHECKS = [
    *("chat", "streamed_chat", "reassembled_by_the_client", "streamed_tool_call", "completions"),
    *("streamed_completions", "models", "errors", "abort"),
]


def test_the_npm_client(server: LiveServer) -> None:
    aborted = server.figures().aborted
    result = subprocess.run(
        [find_node(), "check.mjs", f"{server.url}/v1", MODEL],
        cwd=NODE_FOLDER,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(" passed\n") == len(CHECKS)
    assert result.stdout.split()[::2] == CHECKS
    eventually(
        server.figures,
        lambda seen: seen.running == seen.waiting == 0 and seen.aborted > aborted,
        "what the client gave up was cancelled",
    )
