"""What a wire format brings: three functions and the words for a failure. ``respond`` does the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from starlette.responses import Response

from engine.errors import NibbleError
from generation.events import Event
from generation.fold import Generation
from generation.request import GenerationRequest
from routes.envelope import Envelope
from routes.wire_body import WireBody

BodyT = TypeVar("BodyT", bound=WireBody)


class Encoder(Protocol):
    """Turns the events of one request into server-sent events. Owned by the task that answers it."""

    def encode(self, events: list[Event]) -> bytes:
        """All that one engine step brought, as one blob; empty where the wire has nothing to say."""
        ...

    def end(self) -> bytes:
        """What closes a stream that succeeded."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect(Generic[BodyT]):
    """One wire format of one operation."""

    operation: str
    """The label of its metrics."""
    id_prefix: str
    body: type[BodyT]
    parse: Callable[[BodyT, str], GenerationRequest]
    """Body and request id to the canonical request. Raises InvalidRequest."""
    encoder: Callable[[BodyT, Envelope], Encoder]
    render: Callable[[Generation, Envelope], bytes]
    encode_failure: Callable[[NibbleError], bytes]
    """The last frame of a stream that failed."""
    render_failure: Callable[[NibbleError], Response]
    """The answer to a request that failed before any of it was sent."""
