"""What every chunk of one answer has in common."""

from __future__ import annotations

import secrets
import time

import msgspec

from model_registry.card import ModelCard


class Envelope(msgspec.Struct, frozen=True):
    """The head of an answer."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    fingerprint: str


def new_envelope(id_prefix: str, card: ModelCard) -> Envelope:
    return Envelope(f"{id_prefix}{secrets.token_hex(12)}", int(time.time()), card.id, card.fingerprint)
