"""``nibble doctor``, as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fixtures.tiny_gguf import write_tiny
from tests.server.nibble_process import free_port, run_nibble

CHECKS = [
    "machine",
    "build",
    "processor",
    "memory",
    "open files",
    "disk",
    "data directory",
    "settings",
    "port",
    "models",
]


def test_the_exit_status_tells_whether_something_fails(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf")
    port = str(free_port())
    result = run_nibble(tmp_path, "doctor", "--json", NIBBLE_PORT=port)
    found = json.loads(result.stdout)
    assert [each["check"] for each in found] == CHECKS
    assert result.returncode == 0, found
    assert all(each["mend"] for each in found if each["status"] != "ok")
    result = run_nibble(tmp_path, "doctor", "--models-dir", str(tmp_path / "none"), NIBBLE_PORT=port)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    failed = next(place for place, line in enumerate(lines) if line.startswith("fail settings"))
    assert "create it, or name another with --models-dir" in lines[failed + 1]
