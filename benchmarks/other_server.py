"""Any other server with OpenAI's API, put under the same load in the same run."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from benchmarks.served import measure_url
from benchmarks.stream_client import StreamTimes
from benchmarks.workload import Workload


@dataclass(frozen=True, slots=True)
class OtherServer:
    """A server that runs already. It must serve the same file, with as many sequences at once."""

    name: str
    url: str
    model: str

    @classmethod
    def of(cls, told: str) -> Self:
        """``NAME=URL`` or a URL alone; the model is the first that the server lists. Raises ValueError."""
        name, _, url = told.rpartition("=")
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"'{told}' is not NAME=http://HOST:PORT")
        base = f"http://{parts.netloc}"
        try:
            with urllib.request.urlopen(f"{base}/v1/models", timeout=10) as answer:
                model = str(json.load(answer)["data"][0]["id"])
        except (OSError, LookupError, ValueError) as error:
            raise ValueError(f"{base}/v1/models gives no model: {error}") from error
        return cls(name or parts.netloc, base, model)

    def measure(self, workload: Workload, seed: int) -> list[StreamTimes]:
        """One round, as of our own server."""
        return measure_url(self.url, self.model, workload, seed, every_piece=False)
