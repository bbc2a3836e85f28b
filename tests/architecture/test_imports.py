"""What the API process must never load, and what a command does not wait for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LOADED = "import json, sys, server.app, server.process, server.serve; print(json.dumps(sorted(sys.modules)))"


def test_the_api_process_loads_no_native_code_of_the_engine() -> None:
    """llama.cpp ends its process on bad input; and loading it would cost a sixth of a second of every start."""
    told = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = json.loads(told.stdout)
    assert "server.app" in loaded
    assert [name for name in loaded if name.split(".")[0] == "llama_cpp"] == []
    assert [name for name in loaded if name.startswith("engine.native")] == []
    # For pulling alone, and 30 to 60 ms of every start, with all that it brings.
    assert "httpx" not in loaded


def test_the_first_worker_is_spawned_before_anything_heavy_is_imported() -> None:
    program = "import json, sys, server.first_worker; print(json.dumps(sorted(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {"asyncio", "msgspec", "pydantic", "numpy"}.isdisjoint(json.loads(told.stdout))


def test_a_command_that_only_looks_loads_nothing_of_what_serves(tmp_path: Path) -> None:
    """``nibble list`` is typed often, and most of its time are imports."""
    program = (
        "import json, sys; from server.cli import app; app(['list', '--json'], standalone_mode=False);"
        " print(json.dumps(sorted(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "NIBBLE_DATA_DIR": str(tmp_path)},
    )
    loaded = set(json.loads(told.stdout.splitlines()[-1]))
    assert "model_registry.shelf" in loaded
    heavy = ("starlette", "fastapi", "uvicorn", "httpx", "numpy", "llama_cpp", "model_registry.registry")
    assert loaded.isdisjoint(heavy)
