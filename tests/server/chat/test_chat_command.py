"""``nibble chat`` with a real server: piped input, and a terminal of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.local_access import CONVERSATION, announced
from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import NIBBLE, ServerUnderTest, clean_environment, free_port


def chat(home: Path, text: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NIBBLE, "chat", *arguments],
        input=text,
        env=clean_environment(home, extra),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def write_models(home: Path) -> None:
    (home / "models").mkdir()
    for name in ("alpha", "beta"):
        write_gguf(home / "models" / f"{name}.gguf")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    """Answers with the words of the last message, and ``end``."""
    home = tmp_path_factory.mktemp("home")
    write_models(home)
    with ServerUnderTest(home) as running:
        yield running


def test_piped_lines_are_messages_and_commands(tmp_path: Path, server: ServerUnderTest) -> None:
    lines = [
        "hello you",
        "/regenerate",
        "",
        "two\\",
        "lines",
        "//slash",
        "/model beta",
        "/model",
        "/system be brief",
        "/system",
        "/set temperature=0",
        "/set",
        "/save talk.json",
        "/new",
        "/load talk.json",
        "/help",
        "/quit",
        "never said",
    ]
    result = chat(tmp_path, "\n".join(lines), "--url", server.url)
    assert (result.returncode, result.stderr) == (0, ""), result
    answers = result.stdout.splitlines()
    assert answers[:4] == ["hello you end"] * 2 + ["two lines end", "/slash end"]
    assert "* beta  " in result.stdout
    assert "be brief\ntemperature=0\n" in result.stdout
    assert "6 messages, with beta" in result.stdout
    assert "/regenerate" in result.stdout
    assert "never" not in result.stdout
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert saved["messages"][-1] == {"role": "assistant", "content": "/slash end"}


def test_what_fails_is_told_and_the_conversation_goes_on(tmp_path: Path, server: ServerUnderTest) -> None:
    lines = ["/nope", "/set speed=1", "/save", "/set temperature=9", "one", "/set temperature=", "two"]
    (tmp_path / "models").mkdir()
    result = chat(
        tmp_path, "\n".join(lines), "alpha", "--url", server.url, "--models-dir", str(tmp_path / "models")
    )
    assert result.returncode == 1
    assert result.stdout == "two end\n"
    first, *told = result.stderr.splitlines()
    assert "--models-dir is for one that is started" in first
    assert [words in line for words, line in zip(
        ("no command /nope", "'speed=1' is none of", "name a file", "temperature"), told, strict=True
    )] == [True] * 4  # fmt: skip
    unknown = chat(tmp_path, "one", "alpga", "--url", server.url)
    assert (unknown.returncode, "the nearest known: 'alpha'" in unknown.stderr) == (1, True)


def test_an_address_where_nobody_answers_is_told(tmp_path: Path) -> None:
    result = chat(tmp_path, "one", "--url", f"http://127.0.0.1:{free_port()}")
    assert (result.returncode, "start 'nibble serve' there" in result.stderr) == (1, True)


def test_a_server_of_its_own_that_cannot_start_tells_why(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.gguf").write_bytes(b"<html>")
    result = chat(tmp_path, "one", "bad", NIBBLE_PORT=str(free_port()))
    assert result.returncode == 1
    assert "is a web page" in result.stderr


def test_a_setting_that_is_refused_is_told_by_the_server_of_its_own(tmp_path: Path) -> None:
    extra = {"NIBBLE_PORT": str(free_port()), "NIBBLE_PREFIX_DISK": "1GB", "NIBBLE_PREFIX_MEMORY": "0"}
    result = chat(tmp_path, "one", **extra)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("nibble: prefix_disk needs prefix_memory")


def test_a_key_is_sent_and_where_it_is_missing_that_is_told(tmp_path: Path) -> None:
    write_models(tmp_path)
    key = "sk-0123456789abcdef"
    with ServerUnderTest(tmp_path, NIBBLE_API_KEY=key) as server:
        result = chat(tmp_path, "one", "--url", server.url)
        assert (result.returncode, "set NIBBLE_API_KEY" in result.stderr) == (1, True)
        assert chat(tmp_path, "one", "--url", server.url, NIBBLE_API_KEY=key).stdout == "one end\n"


def test_the_server_that_runs_over_the_data_directory_is_found_whatever_its_port(tmp_path: Path) -> None:
    write_models(tmp_path)
    elsewhere = {"NIBBLE_PORT": str(free_port())}
    key = "sk-0123456789abcdef"
    with ServerUnderTest(tmp_path, NIBBLE_API_KEY=key) as first:
        assert first.status("/health") == 200
        result = chat(tmp_path, "one", **elsewhere)
        assert (result.stdout, result.stderr) == ("one end\n", ""), result
        with ServerUnderTest(tmp_path, NIBBLE_API_KEY=key) as second:
            assert second.status("/health") == 200
            result = chat(tmp_path, "one", **elsewhere)
            assert result.returncode == 1
            assert f"several servers run over {tmp_path}: name one with --url" in result.stderr
            assert chat(tmp_path, "one", NIBBLE_PORT=str(urlsplit(second.url).port)).stdout == "one end\n"


def test_a_server_that_does_not_answer_is_told_and_not_joined_by_another(tmp_path: Path) -> None:
    with announced(tmp_path, f"http://127.0.0.1:{free_port()}"):
        result = chat(tmp_path, "one")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "is busy or stuck" in result.stderr


def test_another_conversations_own_server_is_left_to_that(
    tmp_path: Path, server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.gguf").write_bytes(b"<html>")
    monkeypatch.setenv(CONVERSATION, "1")
    with announced(tmp_path, server.url):
        result = chat(tmp_path, "one", "bad", NIBBLE_PORT=str(free_port()))
    assert "no server runs; starting one" in result.stderr, "it ends with its conversation"


class Terminal:
    """A chat in a terminal of its own. Owned by the test's thread."""

    def __init__(self, home: Path, url: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [NIBBLE, "chat", "alpha", "--url", url],
            env=clean_environment(home, {"TERM": "dumb"}),
            cwd=home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            # The terminal's own group, so that ^C comes to it as to a person's program.
            start_new_session=True,
            preexec_fn=lambda: _control(theirs),
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def sees(self, words: str, times: int = 1) -> None:
        eventually(self._look, lambda shown: shown.count(words) >= times, f"{words!r} is shown")

    def _look(self) -> str:
        with contextlib.suppress(OSError):
            self.shown += os.read(self._ours, 65536).decode("utf-8", "replace")
        return self.shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


def _control(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_ctrl_c_ends_an_answer_and_not_the_program(tmp_path: Path) -> None:
    write_models(tmp_path)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    keeper = os.open(gate, os.O_RDWR)
    with ServerUnderTest(tmp_path, ECHO_GATE=str(gate)) as server:
        terminal = Terminal(tmp_path, server.url)
        try:
            terminal.sees(">>> ")
            terminal.type("first question\n")
            # The server has answered these words, and waits at its gate.
            terminal.sees("first question", times=2)
            terminal.type("\x03")
            terminal.sees("... ended")
            terminal.sees(">>> ", times=2)
            eventually(
                lambda: _running(server), lambda running: running == 0, "the server has ended the answer, too"
            )
            os.write(keeper, b"open")
            terminal.type("second\n")
            terminal.sees("second end")
            terminal.sees(">>> ", times=3)
            terminal.type("\x03")
            terminal.sees("/quit or Ctrl-D leaves")
            terminal.type("\x04")
            assert terminal.process.wait(PATIENCE_S) == 0
        finally:
            terminal.close()
            os.close(keeper)


def _running(server: ServerUnderTest) -> float:
    with server.open("/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("nibble_requests_running{"))


@pytest.mark.model
def test_without_a_server_it_starts_one_and_ends_it(tmp_path: Path) -> None:
    result = chat(
        tmp_path,
        "/set temperature=0\n/set max_tokens=8\nSay hello.\n",
        NIBBLE_PORT=str(free_port()),
        NIBBLE_CONTEXT="512",
        NIBBLE_PARALLEL="1",
    )
    assert result.returncode == 0, result
    assert result.stdout.strip()
    assert result.stderr == "nibble: no server runs; starting one for this conversation ...\n"
