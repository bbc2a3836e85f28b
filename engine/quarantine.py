"""Requests that were with the worker when it died: one that saw two deaths is not let near a third worker.

A request is known again by a digest of what it asks and who asks it, so that the same one sent anew is the same one.
What only waited in the worker's queue is no suspect; nor is, of what the worker had still to read, anything but the
first of each of the two threads that read.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from engine.embedding import EmbeddingRequest
from engine.errors import RequestQuarantined
from engine.exchange import Body, Exchange, Standing
from engine.question import Describe
from engine.request import EngineRequest

DEATHS = 2
_MEMORY_S = 3600.0
"""After so long, what a request did is forgotten: model, server or machine may be mended."""
_MOST_DIGESTS = 4096

_encoder = msgspec.msgpack.Encoder()


class Quarantine:
    """Deaths by the digest of the requests that saw them. Owned by the event loop; ``clock`` tells seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deaths: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        """How many, and when the last one was: that of the first longest ago."""

    def check(self, body: Body) -> None:
        """Raise RequestQuarantined for what saw ``DEATHS`` deaths; what msgspec raises for what it cannot encode."""
        self._forget()
        if self._deaths and self._deaths.get(digest_of(body), (0, 0.0))[0] >= DEATHS:
            raise RequestQuarantined(
                f"the model's process has died {DEATHS} times while it had this very request, which is therefore"
                f" not served for {_MEMORY_S / 60:.0f} minutes; change it, or see the server's log"
            )

    def suspect(self, bodies: Iterable[Body]) -> int:
        """Take in that ``bodies`` saw a death; how many of them are in quarantine now."""
        held = 0
        for body in bodies:
            digest = digest_of(body)
            deaths, _ = self._deaths.pop(digest, (0, 0.0))
            self._deaths[digest] = deaths + 1, self._clock()
            held += deaths + 1 >= DEATHS
        while len(self._deaths) > _MOST_DIGESTS:
            self._deaths.popitem(last=False)
        return held

    def clear(self, body: Body) -> None:
        """Take in that ``body`` was answered in full: whatever it saw, it was not the cause."""
        if self._deaths:
            self._deaths.pop(digest_of(body), None)

    def _forget(self) -> None:
        now_s = self._clock()
        while self._deaths and now_s - next(iter(self._deaths.values()))[1] > _MEMORY_S:
            self._deaths.popitem(last=False)


def suspects(exchanges: Iterable[Exchange]) -> list[Body]:
    """Whichever of ``exchanges``, in the order in which they were sent, may have been the end of their worker."""
    found: list[Body] = []
    tracks: set[bool] = set()
    for exchange in exchanges:
        if not exchange.is_unfinished or exchange.standing is Standing.READ:
            continue
        if isinstance(exchange.body, Describe):
            continue  # it holds nothing of a client's
        if exchange.standing is Standing.SENT:
            if exchange.is_compiled in tracks:
                continue
            tracks.add(exchange.is_compiled)
        found.append(exchange.body)
    return found


def digest_of(body: Body) -> bytes:
    """The same for the same question of the same caller, whatever its number and its place in the queue."""
    if isinstance(body, EngineRequest):
        body = msgspec.structs.replace(body, request_id="", priority=0, queue_timeout_s=None)
    elif isinstance(body, EmbeddingRequest):
        body = msgspec.structs.replace(body, request_id="", queue_timeout_s=None)
    return hashlib.sha256(_encoder.encode(body)).digest()
