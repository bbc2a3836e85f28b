"""What was pulled, by whichever process: the server counts none of it itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from model_registry.pull.download_tally import DOWNLOAD_SOURCES
from server.late_look import LateLook


class DownloadCollector(Collector):
    """Called on the event loop."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        """``read`` gives bytes by source; it blocks, and raises nothing."""
        self._total = LateLook(read, "look at downloads")

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "nibble_download_bytes", "Bytes of models fetched, by every process.", labels=("source",)
        )
        total = self._total()
        for source in DOWNLOAD_SOURCES:
            family.add_metric((source,), total.get(source, 0))
        yield family
