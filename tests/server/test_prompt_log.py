"""Prompts and answers in the log of a real server: never, unless they were asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.server.nibble_process import ServerUnderTest

CHAT = {"model": "alpha", "messages": [{"role": "user", "content": "Zanzibar calling"}]}


def test_they_are_logged_beside_the_line_of_the_request(data: Path) -> None:
    with ServerUnderTest(data, NIBBLE_LOG_PROMPTS="true") as server:
        server.wait_until_loaded()
        with server.open("/v1/chat/completions", json.dumps(CHAT).encode()) as answer:
            request_id = answer.headers["x-request-id"]
            answer.read()
        lines = server.end_cleanly()
    assert any(line["level"] == "warning" and "log_prompts" in str(line["event"]) for line in lines)
    (content,) = [line for line in lines if line["event"] == "content"]
    assert content["request_id"] == request_id
    assert content["input"] == [{"role": "user", "parts": [{"type": "text", "content": "Zanzibar calling"}]}]
    assert content["output"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Zanzibar calling end"}],
            "finish_reason": "stop",
        }
    ]
    (request,) = [line for line in lines if line["event"] == "request" and "operation" in line]
    assert "Zanzibar" not in json.dumps(request)


def test_an_answer_that_broke_off_is_logged_as_far_as_it_came(data: Path) -> None:
    extra = {"NIBBLE_LOG_PROMPTS": "true", "ECHO_GATE": str(data / "gate"), "NIBBLE_DRAIN_S": "0.1"}
    with ServerUnderTest(data, variables=extra) as server:
        server.wait_until_loaded()
        with server.open("/v1/chat/completions", json.dumps({**CHAT, "stream": True}).encode()):
            gate = os.open(data / "gate", os.O_WRONLY)  # returns when the engine stands before it
            lines = server.end_cleanly()
        os.close(gate)
    (content,) = [line for line in lines if line["event"] == "content"]
    assert content["output"] == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Zanzibar calling "}]}
    ]


def test_nothing_is_logged_unless_it_was_asked_for(data: Path) -> None:
    with ServerUnderTest(data, NIBBLE_LOG_LEVEL="debug") as server:
        server.wait_until_loaded()
        for body in (CHAT, {**CHAT, "temperature": "Zanzibar"}, {**CHAT, "Zanzibar": 1}):
            with server.open("/v1/chat/completions", json.dumps(body).encode()) as answer:
                answer.read()
        lines = server.end_cleanly()
    assert "Zanzibar" not in json.dumps(lines)
