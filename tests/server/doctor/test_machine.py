from __future__ import annotations

from pathlib import Path

import pytest

from server.doctor.machine import check_files, check_machine, check_memory
from server.settings import Settings

GB = 10**9


def test_a_machine_that_is_served_on_is_well() -> None:
    found = check_machine("Linux", "aarch64")
    assert found.status == "ok"
    assert "Linux on aarch64" in found.text
    assert check_machine().status == "ok"


def test_another_system_is_told_what_to_use() -> None:
    found = check_machine("Windows", "AMD64")
    assert (found.status, found.mend) == ("fail", "use Linux or macOS; on Windows, WSL 2 is a Linux")


@pytest.mark.parametrize(
    ("budget", "available", "status", "mend"),
    [
        (None, 4 * GB, "ok", ""),
        (2 * GB, 4 * GB, "ok", ""),
        (None, GB // 2, "warn", "nibble catalog"),
        (16 * GB, 4 * GB, "warn", "set memory_budget below 8.0 GB"),
    ],
)
def test_memory(tmp_path: Path, budget: int | None, available: int, status: str, mend: str) -> None:
    settings = Settings(data_dir=tmp_path, memory_budget=budget)
    found = check_memory(settings, available, 8 * GB)
    assert found.status == status
    assert mend in found.mend
    assert check_memory(Settings(data_dir=tmp_path)).check == "memory"


def test_files() -> None:
    assert check_files(4096).status == "ok"
    assert check_files(-1).text == "no limit"
    found = check_files(256)
    assert found.status == "warn"
    assert "ulimit -n 4096" in found.mend
