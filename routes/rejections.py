"""Why a request is turned away before it runs, as the figures have it."""

from __future__ import annotations

from typing import Final

from engine.errors import (
    ContextLengthExceeded,
    KeyQueueFull,
    NibbleError,
    QueueFull,
    QueueTimeout,
    RequestQuarantined,
)
from routes.http_errors import RateLimited

REJECTIONS: Final[dict[type[NibbleError], str]] = {
    QueueFull: "queue_full",
    KeyQueueFull: "key_queue_full",
    QueueTimeout: "queue_timeout",
    RateLimited: "rate_limit",
    ContextLengthExceeded: "context",
    RequestQuarantined: "quarantine",
}
AUTH: Final = "auth"
"""No key, an unknown one, or one that may not."""
