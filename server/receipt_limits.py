"""How long and how large a request may be on its way in, before any route has a say; how long an answer on its way out,
when none has any more."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceiptLimits:
    """What a client may take to send one request, and to read its answer."""

    header_timeout_s: float = 10.0
    """From its first byte, or from the connection, to the end of its headers."""
    max_header_bytes: int = 32 * 1024
    """Of the request line and all headers; also of what follows the body (trailers)."""
    body_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    """Without reading anything of what is left of an answer that was made whole."""
