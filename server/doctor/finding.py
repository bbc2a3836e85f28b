"""What one check has found."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """``warn`` is served with all the same; ``fail`` is not."""

    check: str
    status: Status
    text: str
    mend: str = ""
    """What to do, where it is not ok."""
