"""A server of the conversation's own, where none runs: started before it, and ended with it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from server.chat.chat_client import ChatClient, ChatError
from server.health_check import check_health
from server.local_access import CONVERSATION

_POLL_S = 0.1
_END_S = 15.0


class OwnServer:
    """``nibble serve`` on a free port of the loopback, with a key that nobody else has. Owned by one thread."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self.key = os.environ.get("NIBBLE_API_KEY") or f"sk-{secrets.token_hex(16)}"
        self.url = ""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it, and wait until what it loads at start is loaded. Raises ChatError, with the last that it said."""
        try:
            self._start()
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        settings = ("--host", "127.0.0.1", "--port", "0", "--log-format", "pretty")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "server", "serve", *settings, *self._arguments],
            # A server with a key is not one that needs none, whatever the settings file says.
            env=os.environ
            | {"NIBBLE_API_KEY": self.key, "NIBBLE_INSECURE_NO_AUTH": "false", CONVERSATION: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C ends an answer here, and not the server that gives it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline().decode("utf-8", "replace")
        self.url = next((word.rstrip(",") for word in first.split() if word.startswith("http://")), "")
        if not self.url:
            raise ChatError(self._last_words())

    def _wait(self) -> None:
        assert self._process is not None
        with ChatClient(self.url, self.key) as client:
            while not check_health(self.url, ready=True, timeout_s=5.0)[0]:
                if self._process.poll() is not None:
                    raise ChatError(self._last_words())
                states: set[str] = set()
                with contextlib.suppress(ChatError):
                    states = {model.state for model in client.models()}
                # One failed, and another would load on request: the first message tells the reason. Where all have
                # failed, the server ends itself.
                if "loading" not in states and "registered" in states:
                    return
                time.sleep(_POLL_S)

    def _last_words(self) -> str:
        if self._process is not None:
            self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("nibble: ") if lines else "the server ended without a word"

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._log.close()
