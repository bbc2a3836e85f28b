"""What is left when a process ends in the middle: of a worker nearly everything, of the server its word."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_registry.sources.bundled import BUNDLED_ID, locate_bundled
from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import eventually
from tests.end_to_end.raw_request import RawRequest, raw_request

pytestmark = pytest.mark.model

SMALL = ("--context", "512", "--parallel", "2")


@pytest.fixture
def mortal(tmp_path: Path) -> Path:
    """The bundled model once more, as a file of the models directory, which can be taken away."""
    bundled = locate_bundled()
    assert bundled is not None, "make setup installs it"
    (tmp_path / "models").mkdir()
    link = tmp_path / "models" / "mortal.gguf"
    # A hard link or a copy: through a symbolic link, the worker would hold the file under its other name.
    try:
        os.link(bundled, link)
    except OSError:
        link.write_bytes(bundled.read_bytes())
    return link


@contextmanager
def streaming(server: LiveServer, model: str, tokens: int) -> Iterator[RawRequest]:
    """A stream whose first text has come."""
    body = {"model": model, "prompt": "1, 2,", "max_tokens": tokens, "ignore_eos": True, "temperature": 1}
    with raw_request(server.port, "/v1/completions", {**body, "stream": True}) as request:
        request.send()
        request.read_until(b'"text":')
        yield request


def one_answer(server: LiveServer, model: str) -> int:
    return server.post("/v1/completions", {"model": model, "prompt": "1, 2,", "max_tokens": 1}).status_code


def test_a_worker_that_is_killed_is_told_of_and_replaced(tmp_path: Path, mortal: Path) -> None:
    with LiveServer(tmp_path, *SMALL) as server:
        server.ready()
        with streaming(server, "mortal", 400) as stream:
            worker = server.workers()["mortal.gguf"]
            # Without its file no new worker can start, so that what lies between can be looked at.
            aside = mortal.rename(mortal.with_suffix(".aside"))
            os.kill(worker, signal.SIGKILL)
            told = stream.read_until(b'"error"') + stream.read_until(b"worker_died")
            assert b"[DONE]" not in told
            eventually(lambda: server.status("/ready"), lambda seen: seen == 503, "it is not ready")
            assert server.status("/health") == 200
            refused = server.post("/v1/completions", {"model": "mortal", "prompt": "1", "max_tokens": 1})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
            assert refused.headers["retry-after"]
            aside.rename(mortal)
        server.ready()
        assert one_answer(server, "mortal") == 200
        seen = server.figures()
        assert seen("nibble_worker_restarts_total", model="mortal") == 1
        assert seen("nibble_request_errors_total", code="worker_died") == 1
        assert seen.running == seen.waiting == 0


def test_the_death_of_one_worker_leaves_the_other_model_s_streams_alone(tmp_path: Path, mortal: Path) -> None:
    preload = {"NIBBLE_PRELOAD": f"mortal,{BUNDLED_ID}"}
    with LiveServer(tmp_path, *SMALL, extra=preload) as server:
        eventually(server.workers, lambda seen: len(seen) == 2, "both models are loaded")
        assert one_answer(server, "mortal") == one_answer(server, BUNDLED_ID) == 200
        with streaming(server, BUNDLED_ID, 60) as other, streaming(server, "mortal", 400) as stream:
            os.kill(server.workers()["mortal.gguf"], signal.SIGKILL)
            stream.read_until(b"worker_died")
            assert server.status("/ready") == 200, "the other model can answer"
            told = other.read_until(b"[DONE]")
            assert b'"error":' not in told
            assert b'"finish_reason":"length"' in told
        eventually(lambda: one_answer(server, "mortal"), lambda status: status == 200, "it is replaced")


def test_a_server_that_is_told_to_end_finishes_its_streams(tmp_path: Path) -> None:
    with LiveServer(tmp_path, *SMALL) as server:
        server.ready()
        with streaming(server, BUNDLED_ID, 40) as stream:
            workers = server.workers()
            server.signal(signal.SIGTERM)
            told = stream.read_to_end()
        assert b'"finish_reason":"length"' in told
        assert b"[DONE]" in told
        assert server.end() == 0
        assert "Traceback" not in server.log()
        assert workers
        assert not [pid for pid in workers.values() if Path(f"/proc/{pid}/exe").exists()]
