"""A straight line through the memory of processes: what it gains with each request is a leak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil


class MemoryLine:
    """Samples of resident memory, by processes that live as long as it does."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._requests: list[int] = []
        self._bytes: list[list[int]] = []

    def sample(self, requests: int) -> None:
        """Note what is held after so many requests."""
        self._requests.append(requests)
        self._bytes.append([process.memory_info().rss for process in self._processes])

    def bytes_per_request(self) -> list[float]:
        """The slope for each process over the later half: in the first, caches and pools fill."""
        half = len(self._requests) // 2
        if len(self._requests) - half < 3:
            return [0.0 for _ in self._bytes[-1]]
        slopes, *_ = np.polyfit(self._requests[half:], self._bytes[half:], 1)
        return [float(slope) for slope in slopes]

    def grown_bytes(self) -> list[int]:
        """From the middle to the end."""
        half = len(self._requests) // 2
        return [last - first for first, last in zip(self._bytes[half], self._bytes[-1], strict=True)]
