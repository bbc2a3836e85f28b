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
    with_timings: bool = False


def new_envelope(id_prefix: str, card: ModelCard, *, with_timings: bool = False) -> Envelope:
    answer_id = f"{id_prefix}{secrets.token_hex(12)}"
    return Envelope(answer_id, int(time.time()), card.id, card.fingerprint, with_timings)
