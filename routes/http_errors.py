"""The leaves of the error tree that only HTTP knows.

InvalidRequest
├── RouteNotFound         no such path
├── MethodNotAllowed      the path is there, for another method
├── UnsupportedMediaType  a body that is not application/json
├── RequestTooLarge       a body over the limit
└── BodyTimeout           a body that did not arrive in time
NibbleError
└── ReaderTooSlow         a stream whose client does not read it
"""

from __future__ import annotations

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


class ReaderTooSlow(NibbleError):
    kind = "reader_too_slow"
