"""Where the time of a choice went, for clients that ask: an addition of ours, modelled on llama.cpp's server."""

from __future__ import annotations

import msgspec

from generation.events import Timings
from routes.envelope import Envelope


class WireTimings(msgspec.Struct, frozen=True):
    """Milliseconds, and tokens by how they came about."""

    queue_ms: float
    prefill_ms: float
    decode_ms: float
    drafted_tokens: int
    accepted_tokens: int
    forced_tokens: int


def wire_timings(timings: Timings, envelope: Envelope) -> WireTimings | msgspec.UnsetType:
    """What a choice of the answer says of its time: nothing, unless the request asked."""
    if not envelope.with_timings:
        return msgspec.UNSET
    return WireTimings(
        queue_ms=round(timings.queue_s * 1e3, 3),
        prefill_ms=round(timings.prefill_s * 1e3, 3),
        decode_ms=round(timings.decode_s * 1e3, 3),
        drafted_tokens=timings.drafted_tokens,
        accepted_tokens=timings.accepted_tokens,
        forced_tokens=timings.forced_tokens,
    )
