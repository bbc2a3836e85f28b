"""Callers of a test: everybody by default, or whoever a credential stands for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from generation.events import Usage
from routes.caller import SCOPES, Scope
from routes.day_usage import DayUsage, UsageQuery
from routes.http_errors import InvalidApiKey, RateLimited


@dataclass
class FakeCharge:
    reserved: int
    settled: int | None = None

    def settle(self, tokens: int) -> None:
        assert self.settled is None, "settled once"
        self.settled = tokens


@dataclass
class FakeCaller:
    name: str = ""
    scopes: frozenset[Scope] = frozenset(SCOPES)
    models: frozenset[str] | None = None
    priority: int = 0
    most_urgent: int = -100
    refusal: RateLimited | None = None
    requests: int = 0
    held: int = 0
    charges: list[FakeCharge] = field(default_factory=list)
    entries: list[tuple[str, Usage]] = field(default_factory=list)

    def count_request(self) -> None:
        self.requests += 1
        if self.refusal is not None:
            raise self.refusal

    def reserve(self, tokens: int) -> FakeCharge:
        self.charges.append(FakeCharge(tokens))
        return self.charges[-1]

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    def limit_headers(self) -> dict[str, str]:
        return {"x-ratelimit-limit-requests": "7"} if self.name else {}

    def spent(self, model: str, usage: Usage) -> None:
        self.entries.append((model, usage))


class FakeCallers:
    """Owned by the event loop of the test. Without keys everybody is ``anybody``."""

    def __init__(self) -> None:
        self.is_local = True
        self.anybody = FakeCaller()
        self.keys: dict[str, FakeCaller] = {}

    async def identify(self, credential: str | None) -> FakeCaller:
        if not self.keys:
            return self.anybody
        if credential not in self.keys:
            raise InvalidApiKey("no such key")
        return self.keys[credential]


class FakeUsage:
    def __init__(self) -> None:
        self.asked: list[UsageQuery] = []
        self.rows: list[DayUsage] = []

    async def usage(self, query: UsageQuery) -> Sequence[DayUsage]:
        self.asked.append(query)
        return self.rows
