"""One conversation: what was said, with which model, and how it is sampled. No terminal, no network of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from server.chat.chat_client import ChatClient, Piece

PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "stop", "presence_penalty", "frequency_penalty",
    "repeat_penalty", "reasoning_effort",
)  # fmt: skip
"""Fields of a request that ``/set`` takes; the server says what values are good."""


class _Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: str


class _Saved(msgspec.Struct, kw_only=True):
    """The file that ``/save`` writes."""

    model: str
    system: str = ""
    parameters: dict[str, object] = {}
    messages: list[_Message] = []


class ChatSession:
    """Owned by the terminal's thread. Raises ValueError for what a person got wrong, with the mend."""

    def __init__(self, client: ChatClient, model: str, system: str = "") -> None:
        self.model = model
        self.system = system
        self.parameters: dict[str, object] = {}
        self._client = client
        self._messages: list[_Message] = []

    def __len__(self) -> int:
        return len(self._messages)

    def ask(self, text: str) -> Iterator[Piece]:
        """The answer to ``text`` as it comes. Raises ChatError.

        What has come is kept when it is broken off; a question that brought nothing is forgotten: without its answer
        it would be part of every later one.
        """
        before = self._messages
        self._messages = [*before, _Message("user", text)]
        yield from self._answer(before)

    def regenerate(self) -> Iterator[Piece]:
        """Another answer to the last question."""
        before = self._messages
        if not before:
            raise ValueError("there is no question yet: ask one")
        self._messages = before[:-1] if before[-1].role == "assistant" else list(before)
        yield from self._answer(before)

    def new(self) -> None:
        """Forget what was said; model, system message and parameters stay."""
        self._messages = []

    def set(self, assignment: str) -> None:
        """``temperature=0.2``; ``temperature=`` leaves it to the server again."""
        name, mark, text = assignment.partition("=")
        name = name.strip()
        if not mark or name not in PARAMETERS:
            raise ValueError(f"'{assignment}' is none of {', '.join(PARAMETERS)}: write /set temperature=0.2")
        if not text.strip():
            self.parameters.pop(name, None)
            return
        try:
            self.parameters[name] = json.loads(text)
        except ValueError:
            self.parameters[name] = text.strip()

    def save(self, path: Path) -> None:
        """Write the conversation to ``path``, which only its owner may read; the old file or the new one is there."""
        saved = _Saved(
            model=self.model, system=self.system, parameters=self.parameters, messages=self._messages
        )
        new = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(saved)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"{path} cannot be written ({reason}): name another file") from error

    def load(self, path: Path) -> None:
        """Go on with the conversation of a file that ``save`` has written."""
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): name a file of /save") from error
        except (ValueError, msgspec.DecodeError) as error:
            raise ValueError(f"{path} holds no conversation ({error}): name a file of /save") from error
        unknown = [name for name in saved.parameters if name not in PARAMETERS]
        if unknown:
            raise ValueError(f"{path} sets '{unknown[0]}', which is none of {', '.join(PARAMETERS)}")
        self.model, self.system = saved.model, saved.system
        self.parameters, self._messages = saved.parameters, saved.messages

    def _answer(self, otherwise: list[_Message]) -> Iterator[Piece]:
        """``otherwise`` is what was said if nothing comes."""
        said: list[str] = []
        try:
            system = [{"role": "system", "content": self.system}] if self.system else []
            told = [{"role": message.role, "content": message.content} for message in self._messages]
            for piece in self._client.answer(self.model, [*system, *told], self.parameters):
                if piece.kind == "text":
                    said.append(piece.text)
                yield piece
        finally:
            answer = _Message("assistant", "".join(said))
            self._messages = [*self._messages, answer] if said else otherwise
