"""What came of one model file, as the process that tried it tells it to the one that made it."""

from __future__ import annotations

from typing import Literal

import msgspec

TRIAL_LIMIT_S = 20
"""Seconds after which a trial counts as hung."""
Kind = Literal["loads", "refused", "untyped", "died", "hung"]


class Verdict(msgspec.Struct, frozen=True):
    kind: Kind
    why: str = ""
    """The refusal's message; of a death, the signal and the last words."""
