"""The life of the whole process, on an engine that only echoes: start, serve, drain, end."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import ServerUnderTest

BODY = json.dumps(
    {
        "model": "alpha",
        "stream": True,
        "messages": [{"role": "user", "content": "Zanzibar calling"}],
    }
).encode()


def test_it_serves_tells_and_ends(data: Path) -> None:
    with ServerUnderTest(data) as server:
        server.wait_until_loaded()
        assert server.status("/health") == 200
        assert server.status("/ready") == 200
        with server.open("/v1/chat/completions", BODY) as response:
            assert response.headers["x-request-id"].startswith("req_")
            assert response.read().endswith(b"data: [DONE]\n\n")
        server.signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors
    lines = [json.loads(line) for line in errors.splitlines()]
    (line,) = [line for line in lines if line.get("operation") == "chat"]
    assert (line["event"], line["model"], line["outcome"]) == ("request", "alpha", "ok")
    assert (line["prompt_tokens"], line["completion_tokens"], line["finish_reason"]) == (2, 3, "stop")
    assert "Zanzibar" not in errors


def test_the_line_of_a_stream_that_was_left_tells_what_it_came_to(data: Path) -> None:
    with ServerUnderTest(data, ECHO_GATE=str(data / "gate")) as server:
        server.wait_until_loaded()
        with server.open("/v1/chat/completions", BODY):
            gate = os.open(data / "gate", os.O_WRONLY)  # returns when the engine stands before it
        server.signal(signal.SIGTERM)
        _, errors = server.end()
        os.close(gate)
    (line,) = [line for line in map(json.loads, errors.splitlines()) if line.get("operation") == "chat"]
    assert (line["outcome"], line["prompt_tokens"]) == ("aborted", 2)
    assert line["completion_tokens"] < 3


def test_the_drain_answers_not_ready_and_lets_streams_finish(data: Path) -> None:
    with ServerUnderTest(data, ECHO_GATE=str(data / "gate")) as server, ExitStack() as held:
        server.wait_until_loaded()
        stream = held.enter_context(server.open("/v1/chat/completions", BODY))
        gate = os.open(data / "gate", os.O_WRONLY)  # returns when the engine stands before it
        server.signal(signal.SIGTERM)
        while server.status("/ready") != 503:
            pass
        with server.open("/v1/chat/completions", BODY) as refused:
            error = json.loads(refused.read())["error"]
            assert (refused.status, error["code"]) == (503, "model_unavailable")
            assert refused.headers["retry-after"]
        os.write(gate, b"1")
        os.close(gate)
        assert stream.read().endswith(b"data: [DONE]\n\n")
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors


def test_streams_that_outlast_the_drain_are_told(data: Path) -> None:
    with (
        ServerUnderTest(data, ECHO_GATE=str(data / "gate"), NIBBLE_DRAIN_S="0.2") as server,
        ExitStack() as held,
    ):
        server.wait_until_loaded()
        stream = held.enter_context(server.open("/v1/chat/completions", BODY))
        gate = os.open(data / "gate", os.O_WRONLY)
        server.signal(signal.SIGTERM)
        last = stream.read().strip().split(b"\n\n")[-1]
        os.close(gate)
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "model_unavailable"
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors


def test_a_second_signal_ends_at_once(data: Path) -> None:
    with ServerUnderTest(data, ECHO_GATE=str(data / "gate")) as server, ExitStack() as held:
        server.wait_until_loaded()
        held.enter_context(server.open("/v1/chat/completions", BODY))
        gate = os.open(data / "gate", os.O_WRONLY)
        server.signal(signal.SIGTERM)
        while server.status("/ready") != 503:
            pass
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        code, errors = server.end()
        os.close(gate)
    assert code == 0
    assert time.monotonic() - began < 10, "far less than the 30 s of the drain"
    assert "Traceback" not in errors


def test_two_signals_in_a_row_are_no_defect(data: Path) -> None:
    """As ``timeout`` sends them: to the process, and to its group. The second comes while it ends already."""
    with ServerUnderTest(data) as server:
        server.wait_until_loaded()
        server.signal(signal.SIGTERM)
        with suppress(ConnectionError):
            while server.status("/health"):
                pass
        server.signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors


def test_ctrl_c_is_no_defect(data: Path) -> None:
    with ServerUnderTest(data) as server:
        server.wait_until_loaded()
        server.signal(signal.SIGINT)
        code, errors = server.end()
    assert code == 130
    assert "Traceback" not in errors


def test_nobody_has_to_read_what_it_prints(data: Path) -> None:
    with ServerUnderTest(data) as server:
        server.stop_reading()
        while server.status("/ready") != 200:
            pass
        with server.open("/v1/chat/completions", BODY) as response:
            assert response.read().endswith(b"data: [DONE]\n\n")
        server.signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_a_model_that_fails_leaves_the_others_served(data: Path) -> None:
    write_gguf(data / "models" / "broken.gguf")
    with ServerUnderTest(data, NIBBLE_PRELOAD="alpha,broken") as server:
        server.wait_until_loaded()
        assert any("broken.gguf is broken: download it again" in line for line in server.printed)
        assert server.status("/ready") == 200


def test_a_server_that_can_serve_nothing_ends_with_the_reason(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "models" / "alpha.gguf").rename(data / "models" / "broken.gguf")
    # The bundled model would be left to serve: an overriding file of its id that is no model takes its place.
    (data / "models" / "smollm2-135m-instruct.gguf").write_bytes(b"")
    with ServerUnderTest(data) as server:
        code, errors = server.end()
    assert code == 1
    assert "broken.gguf is broken: download it again" in errors
    assert "Traceback" not in errors
