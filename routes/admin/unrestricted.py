"""What a key for certain models may not do, since it would be of others."""

from __future__ import annotations

from routes.caller import Caller
from routes.http_errors import NotPermitted


def require_unrestricted(caller: Caller, what: str) -> None:
    """Raises NotPermitted for a key of certain models, which may not do ``what``."""
    if caller.models is not None:
        raise NotPermitted(f"The API key '{caller.name}' is for certain models, and may not {what}.")


def permit_new(caller: Caller) -> None:
    """Raises NotPermitted for a key of certain models: what it fetched would be none of them."""
    require_unrestricted(caller, "bring new ones")
