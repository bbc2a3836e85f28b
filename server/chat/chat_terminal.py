"""The terminal of a conversation: lines in, answers out, and commands that begin with a slash."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from server.chat.chat_client import ChatClient, ChatError, Piece
from server.chat.chat_session import PARAMETERS, ChatSession

_HELP = f"""\
/new                 forget what was said
/model [NAME]        talk to another model; without a name, list them
/system [TEXT]       set the system message; without a text, show it; /system - removes it
/set [KEY=VALUE]     how answers are sampled ({", ".join(PARAMETERS)}); KEY= unsets; alone, show it
/regenerate          another answer to the last question
/save FILE           write the conversation to a file
/load FILE           go on with a conversation from a file
/help                this
/quit                leave, as Ctrl-D does
Ctrl-C ends an answer. A line that ends in \\ goes on in the next one; // begins a message with a slash."""
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_CONTROLS = dict.fromkeys(each for each in (*range(0x20), *range(0x7F, 0xA0)) if chr(each) not in "\n\t")
"""The control characters of ASCII (C0, DEL) and of Latin-1 (C1), without which there is no escape sequence."""


class ChatTerminal:
    """Owned by one thread. Without a terminal it prints answers alone, so that its output can be used."""

    def __init__(
        self,
        session: ChatSession,
        client: ChatClient,
        source: TextIO | None = None,
        out: TextIO | None = None,
    ) -> None:
        self._session = session
        self._client = client
        self._source = source or sys.stdin
        self._out = out or sys.stdout
        self._is_terminal = self._source.isatty() and self._out.isatty()
        self._is_screen = self._out.isatty()
        self._has_failed = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda argument: self._print(_HELP),
            "/new": lambda argument: self._session.new(),
            "/model": self._model,
            "/system": self._system,
            "/set": self._set,
            "/regenerate": lambda argument: self._show(self._session.regenerate()),
            "/save": lambda argument: self._session.save(_path(argument)),
            "/load": lambda argument: self._load(argument),
        }

    def run(self) -> int:
        """Until the input ends or somebody quits; the exit status: 1 if a piped message had no answer."""
        if self._is_terminal:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # gives input() its arrow keys
            self._print(f"talking to {self._session.model}; /help lists the commands")
        while (line := self._read()) is not None:
            if line.strip() in ("/quit", "/exit", "/bye"):
                break
            if line.strip():
                self._take(line)
        return 1 if self._has_failed and not self._is_terminal else 0

    def _read(self) -> str | None:
        """The next message, whole; None at the end."""
        lines: list[str] = []
        while True:
            try:
                line = self._read_line("... " if lines else ">>> ")
            except EOFError:
                if self._is_terminal:
                    self._print("")
                return "\n".join(lines) if lines else None
            except KeyboardInterrupt:
                if not self._is_terminal:
                    raise
                self._print("\n/quit or Ctrl-D leaves")
                lines = []
                continue
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _read_line(self, prompt: str) -> str:
        if self._is_terminal:
            return input(prompt)
        line = self._source.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    def _take(self, line: str) -> None:
        """Do what a line says. Whatever fails is told, and the conversation goes on."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                name, _, argument = line.strip().partition(" ")
                command = self._commands.get(name)
                if command is None:
                    raise ValueError(
                        f"there is no command {name}: /help lists them, // begins a message with /"
                    )
                command(argument.strip())
            else:
                self._show(self._session.ask(line.removeprefix("/") if line.startswith("//") else line))
        except (ChatError, ValueError) as error:
            self._has_failed = True
            print(f"nibble: {error}", file=sys.stderr, flush=True)

    def _show(self, answer: Iterator[Piece]) -> None:
        """Print an answer as it comes; Ctrl-C ends it, and what has come counts as said."""
        is_thinking = False
        try:
            for piece in answer:
                if (piece.kind == "reasoning") != is_thinking and self._is_terminal:
                    is_thinking = not is_thinking
                    self._write(_DIM if is_thinking else f"{_PLAIN}\n")
                if piece.kind == "text" or self._is_terminal:
                    self._write(self._harmless(piece.text))
        except KeyboardInterrupt:
            if not self._is_terminal:
                raise
            self._write(f"{_PLAIN} ... ended")
        finally:
            # Closing it closes the connection, on which the server ends the answer.
            close = getattr(answer, "close", None)
            if close is not None:
                close()
            if is_thinking:
                self._write(_PLAIN)
        self._write("\n")

    def _model(self, argument: str) -> None:
        models = self._client.models()
        if not argument:
            for model in models:
                mark = "*" if model.id == self._session.model else " "
                self._print(self._harmless(f"{mark} {model.id}  {model.state}"))
            return
        self._session.model = argument
        if argument not in (model.id for model in models):
            self._print(f"{argument} is not listed; the next message tells whether the server knows it")

    def _system(self, argument: str) -> None:
        if argument:
            self._session.system = "" if argument == "-" else argument
        else:
            self._print(self._session.system or "no system message is set")

    def _set(self, argument: str) -> None:
        if argument:
            self._session.set(argument)
            return
        for name, value in self._session.parameters.items():
            self._print(f"{name}={value}")
        if not self._session.parameters:
            self._print("nothing is set: the server's own values hold")

    def _load(self, argument: str) -> None:
        self._session.load(_path(argument))
        self._print(f"{len(self._session)} messages, with {self._session.model}")

    def _harmless(self, text: str) -> str:
        """What came from a server, without what a screen would obey: to erase, retitle, link, or write a clipboard.

        A model may be talked into writing anything. Each character goes by itself, so that a sequence in several
        pieces goes too. Whatever else reads the output gets it as it is: it may be a program, and the text its data.
        """
        return text.translate(_CONTROLS) if self._is_screen else text

    def _print(self, text: str) -> None:
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _path(argument: str) -> Path:
    if not argument:
        raise ValueError("name a file")
    return Path(argument).expanduser()
