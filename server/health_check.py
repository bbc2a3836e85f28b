"""Asks a running server how it is: what `nibble health` does, for containers and scripts. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

_MOST_BYTES = 65_536
_STRANGER = "something that is not this server"


def check_health(url: str, *, ready: bool, timeout_s: float) -> tuple[bool, str]:
    """Whether the server at ``url`` lives, or with ``ready`` whether it can answer; and one line that says so."""
    address = f"{url.rstrip('/')}/{'ready' if ready else 'health'}"
    # Proxies are for the world outside: this is the machine itself, or one beside it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=timeout_s) as response:
            status = _status(response.read(_MOST_BYTES))
            return (False, f"{address} answers {status}") if status == _STRANGER else (True, status)
    except urllib.error.HTTPError as error:
        with error:
            return False, f"{address} answers {error.code}: {_status(error.read(_MOST_BYTES))}"
    except (OSError, ValueError) as error:
        return False, f"{address} does not answer: {getattr(error, 'reason', error)}"


def url_for(host: str, port: int) -> str:
    """Where a server that listens on ``host`` is reached from its own machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host.strip("[]"), host)
    return f"http://{f'[{name}]' if ':' in name and not name.startswith('[') else name}:{port}"


def _status(body: bytes) -> str:
    try:
        said = json.loads(body)
    except ValueError:
        return _STRANGER
    status = said.get("status") if isinstance(said, dict) else None
    return status if isinstance(status, str) else _STRANGER
