"""What will become of a model of some size on this machine, told before it is fetched. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from model_registry.memory import estimate_bytes, least_bytes

Outlook = Literal["fits", "slow", "impossible"]
_DISK_BYTES_S = 500e6
"""What a disk of flash reads in a second, about: the figure behind the predicted speed."""


class MemoryForecast(msgspec.Struct, frozen=True):
    """``text`` is one sentence with the numbers; empty where the model fits."""

    outlook: Outlook
    text: str = ""


def forecast(file_bytes: int, limit_bytes: int, kv_budget_bytes: int | None = None) -> MemoryForecast:
    """The outlook of weights of ``file_bytes`` where ``limit_bytes`` of memory is all that models may ever have.

    Weights are mapped from their file. What of them memory does not hold is read from the disk again for every token,
    and since a token needs them all in the same order, the kernel has always just dropped what comes next: soon all
    of them are read for each token. What is not mapped must fit, or loading fails.
    """
    needed = estimate_bytes(file_bytes, kv_budget_bytes)
    if needed <= limit_bytes:
        return MemoryForecast("fits")
    if limit_bytes < least_bytes(kv_budget_bytes):
        told = _told(needed, limit_bytes)
        return MemoryForecast("impossible", f"{told}, less than the KV cache and the buffers alone take")
    return MemoryForecast("slow", collapse(file_bytes, needed, limit_bytes))


def collapse(file_bytes: int, needed_bytes: int, limit_bytes: int) -> str:
    """One sentence on how slow it becomes where ``needed_bytes``, weights of ``file_bytes`` among them, do not fit."""
    seconds = file_bytes / _DISK_BYTES_S
    return (
        f"{_told(needed_bytes, limit_bytes)}: its weights will be read from the disk for every token, at some"
        f" {_rounded(seconds)} s a token where the disk reads 500 MB/s"
    )


def _told(needed_bytes: int, limit_bytes: int) -> str:
    return (
        f"it needs about {_gigabytes(needed_bytes)} GB, and this machine lends {_gigabytes(limit_bytes)} GB"
    )


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 2 else f"{seconds:.1f}"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f}"
