"""Where the admin's routes begin, and keys for them."""

from __future__ import annotations

from tests.fakes.callers import FakeCaller
from tests.fakes.house import House

BASE = "/admin/v1/models"


def restricted(house: House, *models: str) -> dict[str, str]:
    """Headers of an admin's key for certain models."""
    house.callers.keys["secret"] = FakeCaller("alice", models=frozenset(models))
    return {"authorization": "Bearer secret"}
