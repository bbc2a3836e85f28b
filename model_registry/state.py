"""The states of a model, and the changes that are legal. Pure: it decides nothing and does nothing.

registered ──> loading ──> ready ──> draining ──> unloaded
    ^             │  ^        └──> failed            │
    │             │  └───────────────────────────────┤
    │             └──> failed ──> loading            │
    └── (never again: a model that was loaded once is ``unloaded``, not ``registered``)
"""

from __future__ import annotations

from typing import Literal

from engine.errors import InternalError

ModelState = Literal["registered", "loading", "ready", "failed", "draining", "unloaded"]

STATES: tuple[ModelState, ...] = ("registered", "loading", "ready", "failed", "draining", "unloaded")

TRANSITIONS: dict[ModelState, frozenset[ModelState]] = {
    "registered": frozenset({"loading", "failed"}),
    "loading": frozenset({"ready", "failed", "unloaded"}),
    "ready": frozenset({"draining", "failed"}),
    "failed": frozenset({"loading"}),
    "draining": frozenset({"unloaded"}),
    "unloaded": frozenset({"loading"}),
}


def check_transition(model_id: str, old: ModelState, new: ModelState) -> None:
    """Raise InternalError if ``old`` to ``new`` is not an edge of the diagram above."""
    if new not in TRANSITIONS[old]:
        raise InternalError(f"model '{model_id}' cannot go from {old} to {new}")
