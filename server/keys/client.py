"""One caller as the server knows it: a key, what it has used of its limits, and where its usage is entered."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from generation.events import Usage
from routes.caller import MAX_PRIORITY, Scope
from routes.http_errors import RateLimited
from server.keys.api_key import ApiKey
from server.keys.places import NoPlace, Places
from server.keys.token_bucket import TokenBucket

Enter = Callable[[str, str, Usage], None]
"""Key, model and usage of one request, to the ledger."""


class Client:
    """Implements ``routes.caller.Caller``. Owned by the event loop; outlives its requests, and a change of its key."""

    def __init__(
        self,
        key: ApiKey,
        enter: Enter,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_operator: bool = False,
    ) -> None:
        """``is_operator``: whoever needs no key on this machine, and so may say what comes first."""
        self._key = key
        self._is_operator = is_operator
        self._enter = enter
        self._clock = clock
        limits = key.limits
        self._requests = self._bucket(None, limits.requests_per_minute)
        self._tokens = self._bucket(None, limits.tokens_per_minute)
        self._places = Places(limits.concurrent, limits.queued or 0, clock)

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def scopes(self) -> frozenset[Scope]:
        return self._key.scopes

    @property
    def models(self) -> frozenset[str] | None:
        return self._key.models

    @property
    def priority(self) -> int:
        return self._key.limits.priority or 0

    @property
    def most_urgent(self) -> int:
        return -MAX_PRIORITY if self._is_operator else self.priority

    @property
    def digest(self) -> bytes:
        return self._key.digest

    def change(self, key: ApiKey) -> None:
        """Take another key of the same name; what was used of the old one's limits stays used."""
        self._key = key
        limits = key.limits
        self._requests = self._bucket(self._requests, limits.requests_per_minute)
        self._tokens = self._bucket(self._tokens, limits.tokens_per_minute)
        self._places.resize(limits.concurrent, limits.queued or 0)

    def count_request(self) -> None:
        now = self._clock()
        if self._requests is None:
            return
        if wait_s := self._requests.wait_s(1, now):
            raise self._limited(f"{self._requests.limit} requests a minute", wait_s)
        self._requests.take(1, now)

    def reserve(self, tokens: int) -> Reservation:
        """An estimate over the limit takes the whole minute: nobody can be told to send less of what is a guess."""
        bucket, now = self._tokens, self._clock()
        if bucket is None:
            return Reservation(None, 0, self._clock)
        reserved = min(tokens, bucket.limit)
        # What costs nothing does not wait until what others have overdrawn has come back.
        if tokens and (wait_s := bucket.wait_s(reserved, now)):
            raise self._limited(f"{bucket.limit} tokens a minute", wait_s)
        bucket.take(reserved, now)
        return Reservation(bucket, reserved, self._clock)

    def place(self) -> HeldPlace:
        return HeldPlace(self._places, self._without_place)

    def _without_place(self, retry_after_s: float | None) -> RateLimited:
        limits = self._key.limits
        words = f"{limits.concurrent} requests at a time, and {limits.queued or 0} waiting"
        return self._limited(words, retry_after_s)

    def limit_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        now = self._clock()
        for kind, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                headers[f"x-ratelimit-limit-{kind}"] = str(bucket.limit)
                headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, int(bucket.level(now))))
                headers[f"x-ratelimit-reset-{kind}"] = duration(bucket.full_in_s(now))
        return headers

    def spent(self, model: str, usage: Usage) -> None:
        self._enter(self._key.name, model, usage)

    def _limited(self, limit: str, retry_after_s: float | None) -> RateLimited:
        return RateLimited(
            f"The API key '{self.name}' is limited to {limit}: try again later.",
            retry_after_s=retry_after_s,
            headers=self.limit_headers(),
        )

    def _bucket(self, old: TokenBucket | None, limit: int | None) -> TokenBucket | None:
        now = self._clock()
        if limit is None:
            return None
        if old is None:
            return TokenBucket(limit, now)
        old.resize(limit, now)
        return old


class HeldPlace(AbstractAsyncContextManager[None]):
    """A place of a key. No generator, since every request enters one, and the event loop registers each of those."""

    def __init__(self, places: Places, refusal: Callable[[float | None], RateLimited]) -> None:
        self._places = places
        self._refusal = refusal
        self._entered_s = 0.0

    async def __aenter__(self) -> None:
        try:
            self._entered_s = await self._places.enter()
        except NoPlace as full:
            raise self._refusal(full.retry_after_s) from None

    async def __aexit__(self, *raised: object) -> None:
        self._places.leave(self._entered_s)


class Reservation:
    """Implements ``routes.caller.Charge``."""

    def __init__(self, bucket: TokenBucket | None, reserved: int, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._reserved = reserved
        self._clock = clock

    def settle(self, tokens: int) -> None:
        if self._bucket is not None:
            self._bucket.take(tokens - self._reserved, self._clock())
            self._bucket = None


def duration(seconds: float) -> str:
    """As OpenAI writes it: ``20ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{round(seconds, 3):g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s"
