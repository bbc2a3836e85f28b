"""Whom to unload so that another model fits. Pure: it decides, and unloads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

EvictionReason = Literal["memory", "idle", "replaced"]
EVICTION_REASONS: Final[tuple[EvictionReason, ...]] = ("memory", "idle", "replaced")
"""Another model needed the memory; nobody used it for its time; its file is gone or another one."""


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model as the choice sees it."""

    id: str
    held_bytes: int
    """What unloading it is expected to give back."""
    used_at: float
    """When it was last in use."""
    may_go: bool
    """False where a request holds it or waits for it, and where it is pinned."""


def choose_victims(residents: Sequence[Resident], missing_bytes: int) -> tuple[str, ...] | None:
    """Ids to unload, the longest unused first and no more than needed; None if even all would not be enough.

    None, and not all that may go: models are not unloaded for one that will not fit in any case.
    """
    victims: list[str] = []
    for resident in sorted(residents, key=lambda each: each.used_at):
        if missing_bytes <= 0:
            break
        if resident.may_go:
            victims.append(resident.id)
            missing_bytes -= resident.held_bytes
    return tuple(victims) if missing_bytes <= 0 else None
