"""SIGHUP: a real process reads its file anew, on an engine that only echoes."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.reload import AFTER_A_RESTART, AT_ONCE, AT_THE_NEXT_LOAD
from server.settings import Settings
from tests.end_to_end.patience import eventually
from tests.server.nibble_process import ROOT, ServerUnderTest, clean_environment

CHAT = "/v1/chat/completions"
BODY = json.dumps(
    {"model": "alpha", "stream": True, "messages": [{"role": "user", "content": "one two"}]}
).encode()
STRANGE = json.dumps(
    {"model": "alpha", "messages": [{"role": "user", "content": "one"}], "strange": 1}
).encode()


@pytest.fixture
def data(data: Path) -> Path:
    (data / "nibble.toml").write_text("strict = true\n")
    return data


def service_manager(data: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.settimeout(60)
    listener.bind(str(data / "notify"))
    return listener


def status(server: ServerUnderTest, body: bytes, **headers: str) -> int:
    with server.open(CHAT, body, headers) as answer:
        answer.read()
        return answer.status


def test_every_setting_is_of_one_kind() -> None:
    kinds = (AT_ONCE, AT_THE_NEXT_LOAD, AFTER_A_RESTART)
    assert set().union(*kinds) == Settings.model_fields.keys(), "say in server/reload.py when a change counts"
    assert sum(map(len, kinds)) == len(Settings.model_fields)


def test_what_can_change_does_while_a_stream_runs_and_the_rest_is_named(data: Path) -> None:
    with ServerUnderTest(data, ECHO_GATE=str(data / "gate")) as server, ExitStack() as held:
        server.wait_until_loaded()
        stream = held.enter_context(server.open(CHAT, BODY))
        gate = os.open(data / "gate", os.O_WRONLY)  # returns when the engine stands before it
        assert status(server, STRANGE) == 400
        (data / "keys.toml").write_text('[alice]\nkey = "a-key-of-her-own-choice"\n')
        (data / "nibble.toml").write_text(
            "strict = false\nvllm_metrics = true\ncontext = 99\nlog_level = 'debug'\n"
            f"allowed_hosts = ['nibble.lan']\napi_key_file = '{data / 'keys.toml'}'\n"
        )
        assert status(server, BODY, host="nibble.lan") == 403
        server.signal(signal.SIGHUP)
        eventually(lambda: status(server, STRANGE), lambda code: code == 401, "keys are asked for")
        with server.open("/v1/models", headers={"host": "nibble.lan"}) as answer:
            assert answer.status == 401, "a name that it goes by now"
        os.write(gate, b"1")
        os.close(gate)
        assert stream.read().endswith(b"data: [DONE]\n\n"), "it began without a key, and ends so"
        lines = server.end_cleanly()
    told = {str(line["event"]): line for line in lines}
    assert told["reloaded"]["changed"] == ["allowed_hosts", "api_key_file", "log_level", "strict"]
    assert told["counts for models that are loaded from now on"]["settings"] == ["context"]
    assert told["needs a restart"]["settings"] == ["vllm_metrics"]


WRONG = {
    "strict = = 1": "cannot be read",
    "strct = true": "did you mean 'strict'?",
    "strict = false\nping_s = -1": "ping_s in",
    "strict = false\napi_key_file = 'nowhere.toml'": "nowhere.toml",
    "strict = false\nembed = ['nothing']": "model 'nothing' does not exist",
    "strict = false\nprefix_disk = '1GiB'\nprefix_memory = 0": "prefix_disk needs prefix_memory",
}


def test_a_file_that_is_wrong_changes_nothing(data: Path) -> None:
    with (
        service_manager(data) as manager,
        ServerUnderTest(data, NOTIFY_SOCKET=str(data / "notify")) as server,
    ):
        assert manager.recv(1024) == b"READY=1"
        for text in WRONG:
            (data / "nibble.toml").write_text(text)
            server.signal(signal.SIGHUP)
            assert manager.recv(1024).startswith(b"RELOADING=1\n")
            assert manager.recv(1024) == b"READY=1", "a reload that failed is over, too"
            assert status(server, STRANGE) == 400
        lines = server.end_cleanly()
    assert not [line for line in lines if line["event"] == "reloaded"]
    refused = [line["reason"] for line in lines if line["event"] == "not reloaded, and nothing has changed"]
    assert len(refused) == len(WRONG)
    for told, reason in zip(refused, WRONG.values(), strict=True):
        assert reason in str(told)


def test_settings_of_no_model_are_told_when_they_are_read(data: Path) -> None:
    with (
        service_manager(data) as manager,
        ServerUnderTest(data, NOTIFY_SOCKET=str(data / "notify")) as server,
    ):
        assert manager.recv(1024) == b"READY=1"
        for _ in range(2):
            (data / "nibble.toml").write_text("[models.alpa]\nthreads = 1\n")
            server.signal(signal.SIGHUP)
            assert manager.recv(1024).startswith(b"RELOADING=1\n")
            assert manager.recv(1024) == b"READY=1"
        lines = server.end_cleanly()
    told = [str(line["event"]) for line in lines if "[models.alpa]" in str(line["event"])]
    assert told == [
        "the settings [models.alpa] are those of no model that is here: the nearest known is 'alpha'"
    ], "once, and not when something else changes"


def test_what_was_given_elsewhere_still_counts_above_the_file(data: Path) -> None:
    with ServerUnderTest(data, NIBBLE_STRICT="true") as server:
        server.wait_until_loaded()
        (data / "nibble.toml").write_text("strict = false\nallowed_hosts = ['nibble.lan']\n")
        server.signal(signal.SIGHUP)
        with_name = {"host": "nibble.lan"}
        eventually(
            lambda: status(server, STRANGE, **with_name), lambda code: code == 400, "its name is known"
        )
        (data / "nibble.toml").unlink()
        server.signal(signal.SIGHUP)
        eventually(
            lambda: status(server, STRANGE, **with_name), lambda code: code == 403, "all is as without a file"
        )
        server.end_cleanly()


def test_a_terminal_that_is_closed_ends_the_server_and_reloads_nothing(data: Path) -> None:
    master, terminal = pty.openpty()
    with (
        (data / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, str(ROOT / "tests/server/echo_engine.py")],
            env=clean_environment(data, {"NIBBLE_PORT": "0", "NIBBLE_LOG_FORMAT": "json"}),
            cwd=data,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as server,
    ):
        os.close(terminal)
        try:
            eventually((data / "log").read_text, lambda text: '"ready"' in text, "it is ready")
            os.kill(server.pid, signal.SIGHUP)
            eventually(
                (data / "log").read_text, lambda text: '"reloaded"' in text, "it has a terminal, and reloads"
            )
            os.close(master)
            assert server.wait(timeout=60) == 0
        finally:
            server.kill()
    assert "shutting down" in (data / "log").read_text()


_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, sys.argv[1]])
"""
"""Makes standard input the terminal of this session, which hears when it is closed."""
