"""OpenAI's own npm client against the real server: the checks themselves are in ``check.mjs``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.server.nibble_process import ROOT

pytestmark = [pytest.mark.model, pytest.mark.node]

FOLDER = ROOT / "tests" / "clients" / "node"
CHECKS = [
    *("chat", "streamed_chat", "reassembled_by_the_client", "completions", "streamed_completions"),
    *("models", "errors", "abort"),
]


@pytest.fixture(scope="module")
def node() -> Path:
    """The program; skips where it or the client is missing, but in CI, where that is a failure."""
    found = shutil.which("node")
    missing = "Node.js is missing"
    if found and (FOLDER / "node_modules" / "openai").is_dir():
        return Path(found)
    if found:
        missing = "the npm client is missing: make test installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def test_the_npm_client(server: LiveServer, node: Path) -> None:
    aborted = server.figures().aborted
    result = subprocess.run(
        [node, "check.mjs", f"{server.url}/v1", MODEL],
        cwd=FOLDER,
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
