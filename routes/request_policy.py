"""What a request may take. By itself, since every command reads the settings, and few of them serve anybody."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """What the operator allows one request."""

    strict: bool = True
    """Unknown fields are refused; otherwise they are logged and named in a response header."""
    max_body_bytes: int = 4 * 1024 * 1024
    request_timeout_s: float = 600.0
    """From the end of the request's body to the end of the answer, loading and queueing included."""
    queue_timeout_s: float | None = None
    """How long it may wait for its turn."""
    ping_s: float = 15.0
    """Silence on a stream after which a comment is sent; 0 sends none."""
    body_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    """How long one send to a client that does not read may take before its connection is dropped."""
