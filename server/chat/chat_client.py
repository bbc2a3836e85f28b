"""The client's side of a conversation: OpenAI's API as this server speaks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

import httpx
import msgspec

_CONNECT_S = 10.0
_SILENCE_S = 600.0
"""A model may have to be loaded first."""


class ChatError(Exception):
    """What the server, or the way to it, has against a request."""


class Piece(msgspec.Struct, frozen=True):
    """Some text of an answer."""

    kind: Literal["text", "reasoning"]
    text: str


class ChatModel(msgspec.Struct, frozen=True):
    """One line of ``/v1/models``."""

    id: str
    state: str = ""
    capabilities: tuple[str, ...] | None = None


class _Listing(msgspec.Struct):
    data: list[ChatModel]


class ChatClient:
    """One server. Owned by one thread."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        # Proxies are for the world outside: this is the machine itself, or one beside it.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def models(self) -> list[ChatModel]:
        """All that there are. Raises ChatError."""
        try:
            response = self._http.get("/v1/models")
            if response.is_error:
                raise ChatError(_reason(response))
            return msgspec.json.decode(response.content, type=_Listing).data
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
            raise ChatError(f"the server does not answer ({error}): see that it runs") from error

    def answer(
        self, model: str, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, object]
    ) -> Iterator[Piece]:
        """Pieces of an answer as they come. Closing the iterator ends the answer. Raises ChatError."""
        body: dict[str, object] = {**parameters, "model": model, "messages": list(messages), "stream": True}
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    raise ChatError(_reason(response))
                for line in response.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield from _pieces(line.removeprefix("data: "))
        except httpx.HTTPError as error:
            raise ChatError(f"the answer broke off ({str(error) or type(error).__name__})") from error


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()


class _Fault(msgspec.Struct, frozen=True):
    message: str = "the answer failed"


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    error: _Fault | None = None


def _pieces(data: str) -> Iterator[Piece]:
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ChatError(f"the server does not speak as OpenAI's does ({error})") from error
    if chunk.error is not None:
        raise ChatError(chunk.error.message)
    for choice in chunk.choices:
        if choice.delta.reasoning_content:
            yield Piece("reasoning", choice.delta.reasoning_content)
        if choice.delta.content:
            yield Piece("text", choice.delta.content)


def _reason(response: httpx.Response) -> str:
    try:
        reason = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"the server answers {response.status_code}"
    return f"{reason} (set NIBBLE_API_KEY to a key of it)" if response.status_code == 401 else reason
