"""Who may call a route: a part of the route itself, never a test on the path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from starlette.requests import Request

from routes.caller import Caller, Scope
from routes.http_errors import InvalidApiKey, NotPermitted
from routes.rejections import AUTH
from routes.services import Services

Access = Scope | Literal["public", "diagnostics"]
"""``diagnostics`` takes any key, and none where only this machine can reach the server."""

Admit = Callable[[Request], Awaitable[None]]
"""Returns for a request that may go on. Raises InvalidApiKey and NotPermitted."""

_SCHEME = "bearer"


def authorization(access: Access, services: Services) -> Admit:
    """What a request has to pass on its way to a route that may be called with ``access``."""

    async def identify(request: Request) -> Caller:
        try:
            caller = await services.callers.identify(credential_of(request))
        except InvalidApiKey:
            services.telemetry.rejected(AUTH)
            raise
        # Before the scope is looked at: the log names whoever is refused.
        request.state.caller = caller
        return caller

    async def admit_anybody(_request: Request) -> None:
        """Nothing to ask: the route says nothing that a stranger may not know."""

    async def admit_diagnostics(request: Request) -> None:
        if not services.callers.is_local:
            await identify(request)

    async def admit(request: Request) -> None:
        caller = await identify(request)
        if access not in caller.scopes:
            services.telemetry.rejected(AUTH)
            raise NotPermitted(_refusal(access, caller.name))

    match access:
        case "public":
            return admit_anybody
        case "diagnostics":
            return admit_diagnostics
        case _:
            return admit


def credential_of(request: Request) -> str | None:
    """The key of ``Authorization: Bearer`` or ``x-api-key``. Never one of the URL: those end up in logs."""
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == _SCHEME and credential.strip():
        return credential.strip()
    return request.headers.get("x-api-key", "").strip() or None


def _refusal(access: str, name: str) -> str:
    if not name:
        return (
            f"This needs a key of the scope '{access}', also where the server is open to requests without one: the"
            " commands of nibble have one of their own, and others get one with"
            f" 'nibble key create NAME --scope {access}', or from NIBBLE_ADMIN_KEY."
        )
    return f"The API key '{name}' does not have the scope '{access}', which this needs."
