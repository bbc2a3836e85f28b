"""What a terminal shows, where the test can see every character."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterator
from typing import cast

import pytest

from server.chat.chat_client import ChatClient, ChatError, Piece
from server.chat.chat_session import ChatSession
from server.chat.chat_terminal import ChatTerminal
from tests.server.chat.test_chat_session import Client


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(
    client: Client, lines: list[str | BaseException], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Type the lines; an exception is what the keyboard does. The exit status, and the screen."""
    typed: Iterator[str | BaseException] = iter([*lines, EOFError()])

    def read(prompt: str = "") -> str:
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr(builtins, "input", read)
    screen, wire = Screen(), cast(ChatClient, client)
    status = ChatTerminal(ChatSession(wire, "tiny"), wire, Screen(), screen).run()
    return status, screen.getvalue()


def test_thoughts_are_dim_and_the_answer_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    status, screen = show(client, ["hi"], monkeypatch)
    assert status == 0
    assert "\x1b[2mhm\x1b[0m\nyes sir\n" in screen
    client.pieces = [Piece("reasoning", "only this")]
    _, screen = show(client, ["hi"], monkeypatch)
    assert "\x1b[2monly this\x1b[0m\n" in screen, "nothing after it is dim"


_NASTY = ("a\x1b", "[2Jb\x1b]0;title\x07", "c\r\x08\x7fd\x9b", "31me\tf\n\u00e9")


def test_what_a_model_writes_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.pieces = [Piece("text", text) for text in _NASTY]
    _, screen = show(client, ["hi"], monkeypatch)
    assert screen.endswith("a[2Jb]0;titlecd31me\tf\n\u00e9\n\n")
    assert "\x1b" not in screen
    client.pieces = [Piece("reasoning", "\x1b]8;;x\x07hm")]
    _, screen = show(client, ["hi"], monkeypatch)
    assert "\x1b[2m]8;;xhm\x1b[0m\n" in screen, "what is dim is so by our own doing alone"


@pytest.mark.parametrize("is_screen", [True, False])
def test_what_is_piped_on_is_what_the_model_wrote(is_screen: bool) -> None:
    client = Client()
    client.pieces = [Piece("text", text) for text in _NASTY]
    out, wire = Screen() if is_screen else io.StringIO(), cast(ChatClient, client)
    ChatTerminal(ChatSession(wire, "tiny"), wire, io.StringIO("hi\n"), out).run()
    assert (out.getvalue() == "".join(_NASTY) + "\n") is not is_screen
    assert ("\x1b" in out.getvalue()) is not is_screen, "a screen is one, whoever has typed the question"


def test_ctrl_c_at_the_prompt_forgets_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    _, screen = show(client, ["half of it\\", KeyboardInterrupt(), "whole"], monkeypatch)
    assert "/quit or Ctrl-D leaves" in screen
    assert [messages[-1]["content"] for _, messages, _ in client.asked] == ["whole"]


def test_a_failure_is_no_failure_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client()
    client.failure = ChatError("busy")
    status, _ = show(client, ["hi", "/regenerate"], monkeypatch)
    assert status == 0, "the person has seen it"
    assert capsys.readouterr().err.count("nibble: busy") == 2
