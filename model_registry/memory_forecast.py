"""What will become of a model of some size on this machine, told before it is fetched. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from model_registry.memory import estimate_bytes, least_bytes

Outlook = Literal["fits", "slow", "impossible"]
_SSD_BYTES_S, _CARD_BYTES_S = 500e6, 50e6
"""What a plain SSD and an SD card read in a second, about: told where the disk that counts is not known yet."""


class MemoryForecast(msgspec.Struct, frozen=True):
    """``text`` is one sentence with the numbers; empty where the model fits."""

    outlook: Outlook
    text: str = ""


class Shortage(msgspec.Struct, frozen=True):
    """Weights of ``file_bytes`` where ``needed_bytes``, they among them, are more than ``limit_bytes`` of memory.

    Weights are mapped from their file, and what of them memory does not hold is read from the disk again. A step of the
    engine needs them all, in the same order, so that the kernel has always just dropped what comes next: nearly all of
    them are read for each step, however little is missing (measured: docs/troubleshooting.md). So a step takes as long
    as the disk does for the file. It is a token of each request that is being answered, or a chunk of a prompt.
    """

    file_bytes: int
    needed_bytes: int
    limit_bytes: int

    def told(self, disk_bytes_s: float | None = None) -> str:
        """One sentence on how slow it becomes on a disk of that speed; of None, by way of example."""
        lent = f"{self.numbers}: its weights will be read from the disk for every token"
        if disk_bytes_s is None:
            return (
                f"{lent}, at some {self._seconds(_SSD_BYTES_S)} s a token from an SSD that reads 500 MB/s, and"
                f" {self._seconds(_CARD_BYTES_S)} s from an SD card that reads 50 MB/s"
            )
        return (
            f"{lent}, at some {self._seconds(disk_bytes_s)} s a token: just now the disk read"
            f" {_rounded(disk_bytes_s / 1e6)} MB/s of them"
        )

    @property
    def numbers(self) -> str:
        return (
            f"it needs about {_gigabytes(self.needed_bytes)} GB, and this machine lends"
            f" {_gigabytes(self.limit_bytes)} GB"
        )

    def _seconds(self, disk_bytes_s: float) -> str:
        return _rounded(self.file_bytes / disk_bytes_s)


def forecast(file_bytes: int, limit_bytes: int, kv_budget_bytes: int | None = None) -> MemoryForecast:
    """The outlook of weights of ``file_bytes`` where ``limit_bytes`` of memory is all that models may ever have.

    What is not mapped must fit, or loading fails.
    """
    shortage = Shortage(file_bytes, estimate_bytes(file_bytes, kv_budget_bytes), limit_bytes)
    if shortage.needed_bytes <= limit_bytes:
        return MemoryForecast("fits")
    if limit_bytes < least_bytes(kv_budget_bytes):
        told = f"{shortage.numbers}, less than the KV cache and the buffers alone take"
        return MemoryForecast("impossible", told)
    return MemoryForecast("slow", shortage.told())


def _rounded(number: float) -> str:
    """To two digits, and never to nothing."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f}"
