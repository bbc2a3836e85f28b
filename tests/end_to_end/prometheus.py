"""A real Prometheus that scrapes a live server, often enough for a test to wait for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.deploy.files import DEPLOY
from tests.deploy.tools import find_program
from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.server.nibble_process import free_port


class Prometheus:
    """Scrapes ``targets`` as the job ``nibble`` twice a second, with deploy's alerts. Owned by the test's thread."""

    def __init__(self, home: Path, *targets: str) -> None:
        program = find_program("prometheus")
        settings = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")],
            "scrape_configs": [{"job_name": "nibble", "static_configs": [{"targets": list(targets)}]}],
        }
        config = home / "prometheus.yml"
        config.write_text(json.dumps(settings))
        address = f"127.0.0.1:{free_port()}"
        self._log = (home / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={home / 'prometheus'}",
                f"--web.listen-address={address}",
                # Debian's expects its pages where its package would be installed.
                f"--web.console.templates={home}",
                f"--web.console.libraries={home}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.http = httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S, trust_env=False)
        eventually(self._is_ready, bool, "Prometheus is ready")

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            return self.http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **params: str) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    def query(self, expression: str) -> list[float]:
        """The values of every series that ``expression`` gives now. Fails for one that Prometheus cannot read."""
        return [float(item["value"][1]) for item in self.get("query", query=expression)["result"]]

    def total(self, expression: str) -> float:
        """The sum of what ``expression`` gives, 0 for nothing."""
        return sum(self.query(expression))
