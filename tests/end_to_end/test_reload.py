"""Reloads under load: no request is lost, and none is refused, while settings change."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import lt
from pathlib import Path

import pytest

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.patience import eventually

pytestmark = pytest.mark.model

CLIENTS, RELOADS = 4, 8
SETTINGS = (
    "ping_s = 1.0\nallowed_hosts = ['one.lan']\nlog_level = 'debug'\nkeep_alive_s = 600\n",
    "[models.smollm2-135m-instruct]\nkeep_alive_s = 30\n",
    "strict = false\nallowed_origins = ['http://page.lan']\nrequest_timeout_s = 300\nmemory_budget = '1GiB'\n",
    "this = is wrong\n",
)


def test_no_request_is_lost_while_settings_change(tmp_path: Path) -> None:
    with LiveServer(tmp_path, "--context", "512", "--parallel", str(CLIENTS)) as server:
        server.ready()
        is_over = False

        def stream(number: int) -> int:
            """Ask for one stream after another; how many came whole."""
            whole = 0
            while not is_over:
                body = {"model": MODEL, "prompt": f"{number}, 2, 3,", "max_tokens": 24, "stream": True}
                with server.http.stream(
                    "POST", "/v1/completions", json={**body, "ignore_eos": True}
                ) as answer:
                    assert answer.status_code == 200, answer.read()
                    *chunks, last = [line for line in answer.iter_lines() if line]
                assert last == "data: [DONE]"
                assert not any('"error"' in chunk for chunk in chunks)
                whole += 1
            return whole

        def reloads() -> int:
            return server.log().count("reloaded")

        with ThreadPoolExecutor(CLIENTS) as pool:
            streams = [pool.submit(stream, number) for number in range(CLIENTS)]
            try:
                for number in range(RELOADS):
                    (tmp_path / "nibble.toml").write_text(SETTINGS[number % len(SETTINGS)])
                    before = reloads()
                    server.signal(signal.SIGHUP)
                    eventually(reloads, partial(lt, before), "the reload is over")
            finally:
                is_over = True
            whole = sum(each.result() for each in streams)
        assert whole >= CLIENTS
        figures = server.figures()
        assert figures("nibble_requests_total", finish_reason="length") == whole
        assert figures("nibble_requests_total") == whole
        assert "Traceback" not in server.log()
        server.signal(signal.SIGTERM)
        assert server.end() == 0
