"""The leaves of the error tree that only HTTP knows.

NibbleError
├── InvalidRequest
│   ├── RouteNotFound         no such path
│   ├── MethodNotAllowed      the path is there, for another method
│   ├── UnsupportedMediaType  a body that is not application/json
│   ├── RequestTooLarge       a body over the limit
│   ├── BodyTimeout           a body that did not arrive in time
│   ├── InvalidApiKey         no key, or one that is not known
│   └── NotPermitted          a key that may not do this
└── RateLimited               a key that has used up what it may use for now
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import InvalidRequest, NibbleError


class RouteNotFound(InvalidRequest):
    kind = "route_not_found"


class MethodNotAllowed(InvalidRequest):
    kind = "method_not_allowed"


class UnsupportedMediaType(InvalidRequest):
    kind = "unsupported_media_type"


class RequestTooLarge(InvalidRequest):
    kind = "request_too_large"


class BodyTimeout(InvalidRequest):
    kind = "body_timeout"


class InvalidApiKey(InvalidRequest):
    kind = "invalid_api_key"


class NotPermitted(InvalidRequest):
    kind = "not_permitted"


class RateLimited(NibbleError):
    kind = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``headers``: what the answer tells about the limits of the key."""
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.headers = dict(headers or {})
