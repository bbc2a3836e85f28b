"""What a worker is told of its parent's environment."""

from __future__ import annotations

import pytest

from engine.spawned_worker import worker_environment


@pytest.mark.parametrize("name", ["LLAMA_CPP_LIB_PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS"])
def test_a_worker_computes_with_the_libraries_that_were_chosen(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It alone loads llama.cpp: what it is not told of another build is ignored without a word."""
    monkeypatch.setenv(name, "1")
    assert worker_environment()[name] == "1"


def test_a_worker_is_told_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_API_KEYS", "hunter2")
    assert "hunter2" not in worker_environment().values()
