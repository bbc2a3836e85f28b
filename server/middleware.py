"""What every request passes on its way in, outermost first: the observer, the host guard, the origin guard.

Pure ASGI, since Starlette's BaseHTTPMiddleware puts a queue between a stream and its client. All of them are
outside the FastAPI app: what its own error handlers answer has to carry a request id, too.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.refusal import refuse
from server.request_record import CURRENT, RequestRecord

if TYPE_CHECKING:
    from server.metrics import HttpMetrics

Middleware = Callable[[ASGIApp], ASGIApp]

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_QUIET: Final = frozenset({"/health", "/ready", "/metrics"})
"""Asked for every few seconds by machines: logged at debug."""


def stack(app: ASGIApp, layers: Iterable[Middleware]) -> ASGIApp:
    """``app`` inside ``layers``, the first of which is outermost."""
    for layer in reversed(tuple(layers)):
        app = layer(app)
    return app


@lru_cache(maxsize=1)
def http_date(second: int) -> bytes:
    """The Date header of one second since the epoch; written once for all the answers of that second."""
    return formatdate(second, usegmt=True).encode()


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    return next((value for key, value in scope["headers"] if key == name), None)


class RequestObserver:
    """Gives each request an id, its figures and its line in the log. Holds nothing between requests."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = request_id_of(scope)
        record = RequestRecord(request_id.decode())
        CURRENT.set(record)
        scope.setdefault("state", {})["request_id"] = record.request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                others = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                message["headers"] = [
                    *others,
                    (b"x-request-id", request_id),
                    (b"date", http_date(int(time.time()))),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            # Starlette raises once more what its last handler has answered and logged; what was not answered
            # is past every handler there is.
            if status is None:
                self._log.exception("a request failed past every handler")
                message = f"an internal error; the log tells more under {record.request_id}"
                await refuse(send_with_id, 500, "internal_error", message)
            record.outcome = "error"
        finally:
            self._tell(scope, record, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, record: RequestRecord, status: int | None, seconds: float) -> None:
        # 499 is what nginx logs for a client that left before it was answered.
        code = status or 499
        if caller := scope["state"].get("caller"):
            record.key = caller.name or None
        route = route_template(scope)
        self._metrics.http_finished(route, scope["method"], code, seconds)
        tell = self._log.debug if route in _QUIET else self._log.warning if code >= 500 else self._log.info
        tell(
            "request",
            method=scope["method"],
            route=route,
            status=code,
            total_s=round(seconds, 4),
            **record.known(),
        )


def request_id_of(scope: Scope) -> bytes:
    """The client's own id if it is fit to be repeated in a header and a log, else a new one."""
    given = header(scope, b"x-request-id")
    return given if given and _REQUEST_ID.fullmatch(given) else b"req_" + secrets.token_hex(12).encode()


def route_template(scope: Scope) -> str:
    """The matched route's path with its parameters unfilled; ``unmatched`` for whatever strangers ask for."""
    return getattr(scope.get("route"), "path", None) or "unmatched"


class HostGuard:
    """Refuses requests by a name that is not ours: so do web pages reach a local port (DNS rebinding)."""

    def __init__(self, app: ASGIApp, names: Iterable[str], *, any_address: bool) -> None:
        """``any_address``: accept all literal addresses, which cannot be rebound, not only loopback's."""
        self._app = app
        self._names = frozenset({"localhost", *(name.lower() for name in names)})
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        # Of two, a proxy may have looked at the other one (RFC 9112, 3.2).
        if scope["type"] != "http" or (len(hosts) == 1 and self._allows(hosts[0])):
            await self._app(scope, receive, send)
            return
        name = b", ".join(hosts).decode("ascii", "replace")[:200]
        message = f"this server does not answer to the host '{name}': add the name to allowed_hosts"
        await refuse(send, 403, "host_not_allowed", message)

    def _allows(self, host: bytes) -> bool:
        name = host_name(host.decode("ascii", "replace"))
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback


def host_name(authority: str) -> str:
    """The name of ``name:port``, ``[::1]:port`` or either without its port, in lower case."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


class OriginGuard:
    """Refuses requests that a browser sends for a page of somebody else's."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._allows(scope):
            await self._app(scope, receive, send)
            return
        name = (header(scope, b"origin") or b"").decode("ascii", "replace")[:200]
        message = f"pages of the origin '{name}' may not call this server: add it to allowed_origins"
        await refuse(send, 403, "origin_not_allowed", message)

    def _allows(self, scope: Scope) -> bool:
        given = header(scope, b"origin")
        if given is None or "*" in self._origins:
            return True
        origin = given.decode("ascii", "replace").lower()
        # A page of this very server: the host guard has seen to it that the name is ours.
        own = (header(scope, b"host") or b"").decode("ascii", "replace").lower()
        return origin in self._origins or origin in (f"http://{own}", f"https://{own}")
