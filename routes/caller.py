"""Who sent a request, and what is counted on his account. ``server.keys`` implements it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Literal, Protocol

from engine.errors import InternalError
from generation.events import Usage

if TYPE_CHECKING:  # every command reads the settings, and with them this; few of them serve anybody
    from starlette.requests import Request

Scope = Literal["inference", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("inference", "admin")

MAX_PRIORITY: Final = 100
"""Priorities go from its negative to itself; a lower one is more urgent."""


class Charge(Protocol):
    """Tokens taken from a caller's minute before it is known what the request costs."""

    def settle(self, tokens: int) -> None:
        """Correct it to ``tokens``, what the request did cost. Called once."""
        ...


class Caller(Protocol):
    """One API key, or everybody where there are none. Its methods run on the event loop."""

    @property
    def name(self) -> str:
        """Of the key; empty for everybody. Prefixes are shared, and turns are taken, by it."""
        ...

    @property
    def scopes(self) -> frozenset[Scope]: ...

    @property
    def models(self) -> frozenset[str] | None:
        """Ids that it may see and use; None means all."""
        ...

    @property
    def priority(self) -> int:
        """Of its requests that do not tell their own."""
        ...

    @property
    def most_urgent(self) -> int:
        """The lowest priority that one of its requests may ask for."""
        ...

    def count_request(self) -> None:
        """Count one request, before its body is read. Raises RateLimited."""
        ...

    def reserve(self, tokens: int) -> Charge:
        """Take what a request may cost from what the key has left of its minute. Raises RateLimited."""
        ...

    def place(self) -> AbstractAsyncContextManager[None]:
        """One of the requests that the key may have running, waited for where it may wait. Raises RateLimited."""
        ...

    def limit_headers(self) -> dict[str, str]:
        """``x-ratelimit-*`` as OpenAI sends them; empty for a key without such limits."""
        ...

    def spent(self, model: str, usage: Usage) -> None:
        """Enter into the ledger what the client of one request was told, or was sent before it ended early."""
        ...


class CallersPort(Protocol):
    """Every caller that is known."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        ...

    async def identify(self, credential: str | None) -> Caller:
        """Whose key it is; None is a request without one. Raises InvalidApiKey."""
        ...


def caller_of(request: Request) -> Caller:
    """Whom the route's authorisation found. Raises InternalError for a route that has none."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise InternalError("a route without authorisation used what needs one")
    return caller
