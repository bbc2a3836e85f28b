"""An answer given before any route is reached, in the shape that OpenAI's clients read errors in."""

from __future__ import annotations

import msgspec
from starlette.types import Send


async def refuse(send: Send, status: int, code: str, message: str) -> None:
    """Send a whole error answer."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
