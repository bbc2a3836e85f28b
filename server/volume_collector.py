"""Room on the volumes that the server writes to and reads from, so that an alert can come before a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.late_look import LateLook


class VolumeCollector(Collector):
    """Called on the event loop."""

    def __init__(self, directories: Mapping[str, Path]) -> None:
        """``directories`` by the name that labels them; one that does not exist is left out."""
        self._directories = directories
        self._room = LateLook(self._find, "look at volumes")

    def collect(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("nibble_volume_free_bytes", "Room left on a volume.", labels=("volume",))
        size = GaugeMetricFamily("nibble_volume_size_bytes", "Size of a volume.", labels=("volume",))
        for name, (size_bytes, free_bytes) in self._room().items():
            size.add_metric((name,), size_bytes)
            free.add_metric((name,), free_bytes)
        yield from (size, free)

    def _find(self) -> dict[str, tuple[int, int]]:
        room: dict[str, tuple[int, int]] = {}
        for name, directory in self._directories.items():
            try:
                usage = shutil.disk_usage(directory)
            except OSError:
                continue
            room[name] = (usage.total, usage.free)
        return room
