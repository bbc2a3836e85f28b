"""How urgent a request is: as its key says, or as it says itself within what the key allows."""

from __future__ import annotations

from routes.caller import Caller
from routes.http_errors import NotPermitted


def priority_of(caller: Caller, asked: int | None) -> int:
    """Raises NotPermitted for what is more urgent than the caller's requests may be."""
    if asked is None:
        return caller.priority
    if asked < caller.most_urgent:
        whose = f"the API key '{caller.name}'" if caller.name else "a request without an API key"
        raise NotPermitted(
            f"'priority': {asked} is more urgent than {whose} may be, which is {caller.most_urgent} and above.",
            param="priority",
        )
    return asked
