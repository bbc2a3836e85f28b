"""A tool that the model may call in one answer."""

from __future__ import annotations

import msgspec


class OfferedTool(msgspec.Struct, frozen=True):
    name: str
    parameters: str
    """JSON text of the schema of its arguments."""
    param: str
    """The field of the request that holds the schema: the one to name when it cannot be enforced."""
