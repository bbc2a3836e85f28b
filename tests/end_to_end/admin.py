"""A server and the commands of its user, who administers it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil

from engine.process_memory import process_memory
from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import PATIENCE_S
from tests.engine.real import model_path
from tests.server.nibble_process import NIBBLE, clean_environment

LOCAL = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


class Admin:
    """A server of two models under a budget that holds one, and its user's commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        models = home / "models"
        models.mkdir()
        for name in ("one", "two"):
            (models / f"{name}.gguf").symlink_to(model_path())
        self.server = LiveServer(
            home,
            *("--context", "512", "--parallel", "2", "--kv-budget", "32MiB", "--memory-budget", "250MB"),
            *("--prefix-memory", "0", "--threads", "1", "--preload", "one"),
            extra=LOCAL
            | {
                "OLLAMA_MODELS": str(home / "ollama"),
                "HF_HUB_CACHE": str(home / "hub"),
                "HOME": str(home / "user"),
            },
        )

    def nibble(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [NIBBLE, *arguments],
            env=clean_environment(self.home, extra),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def told(self, *arguments: str) -> dict[str, Any]:
        """What a command says with ``--json``, as an object."""
        result = self.nibble(*arguments, "--json")
        assert result.returncode == 0, result
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def key(self) -> str:
        (record,) = (self.home / "servers").glob("*.json")
        assert record.stat().st_mode & 0o777 == 0o600
        assert (self.home / "servers").stat().st_mode & 0o777 == 0o700
        key: str = json.loads(record.read_text())["key"]
        return key

    def listed(self) -> list[dict[str, object]]:
        """Every model."""
        headers = {"authorization": f"Bearer {self.key()}"}
        found: list[dict[str, object]] = self.server.http.get("/admin/v1/models", headers=headers).json()[
            "data"
        ]
        return found

    def get(self, path: str) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.key()}"}
        answer: dict[str, Any] = self.server.http.get(f"/admin/v1/{path}", headers=headers).json()
        return answer

    def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        response = self.answer(path, body)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def answer(self, path: str, body: dict[str, object]) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key()}"}
        return self.server.http.post(f"/admin/v1/{path}", json=body, headers=headers)

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job when it is over."""
        return self.events(job_id)[-1]

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """The job as its stream of events tells it until it is over."""
        headers = {"authorization": f"Bearer {self.key()}"}
        with self.server.http.stream("GET", f"/admin/v1/jobs/{job_id}/events", headers=headers) as stream:
            lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def resident(self) -> int:
        """Bytes of all workers together."""
        total = 0
        for child in psutil.Process(self.server.pid).children():
            memory = process_memory(child.pid)
            total += memory.resident_bytes if memory else 0
        return total


def use(admin: Admin, model: str) -> None:
    reply = admin.server.post("/v1/completions", {"model": model, "prompt": "1, 2, 3,", "max_tokens": 4})
    assert reply.status_code == 200, reply.text
