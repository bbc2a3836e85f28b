"""The order of ``nibble``'s commands in its help: as one comes to need them."""

from __future__ import annotations

from typing import Final

from typer.core import TyperGroup

ORDER: Final = (
    *("serve", "chat", "catalog", "pull", "import", "add"),
    *("list", "show", "set", "alias", "rm", "quantize", "tune"),
    *("ps", "load", "unload", "jobs", "health", "usage", "key"),
    *("doctor", "verify", "prune", "bench"),
)
"""To begin with; on models that are here; on a server that runs; on what may be wrong."""


class CommandOrder(TyperGroup):
    """``nibble`` itself."""

    def list_commands(self, ctx: object) -> list[str]:
        return sorted(self.commands, key=ORDER.index)
