"""A client that asks for a long stream and does not read it: what it leaves unread is bounded, and then it is over."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.fixtures.tiny_gguf import Tiny, write_tiny

pytestmark = pytest.mark.model

TOKENS = 15_000
LIMITS = {"NIBBLE_SEND_TIMEOUT_S": "3600", "NIBBLE_REQUEST_TIMEOUT_S": "3600", "NIBBLE_STALL_LIMIT_S": "3600"}
"""So that nothing but the bound of what is unread can end the stream."""


def test_a_reader_that_does_not_read_loses_its_place_and_hears_why(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    shape = Tiny(context=16_384, template="{{ messages[0].content }}")
    write_tiny(tmp_path / "models" / "tiny.gguf", shape)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        # Some four kilobytes a token, so that what the kernel keeps for both ends is soon full.
        "logprobs": True,
        "top_logprobs": 20,
    }
    raw = json.dumps(body).encode()
    arguments = ("--models-dir", str(tmp_path / "models"), "--parallel", "1", "--context", "16384")
    with LiveServer(tmp_path, *arguments, extra={"NIBBLE_PRELOAD": "tiny", **LIMITS}) as server:
        server.ready()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(PATIENCE_S)
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(raw), raw)
            )
            eventually(server.figures, lambda seen: seen.running == 1, "it runs")
            seen = eventually(server.figures, lambda seen: seen.running == 0, "its place is free")
            assert 0 < seen.generated < TOKENS
            quick = server.post("/v1/completions", {"model": "tiny", "prompt": "hi", "max_tokens": 1})
            assert quick.status_code == 200, "the only place is free for others"
            received = b""
            while part := slow.recv(65536):
                received += part
        assert b"the answer is read too slowly" in received
        assert b'"code":"request_timeout"' in received
        assert b"[DONE]" not in received
        ended = eventually(
            server.figures,
            lambda seen: seen("nibble_request_errors_total", code="request_timeout") == 1,
            "it is counted",
        )
        assert ended("nibble_worker_restarts_total") == 0
