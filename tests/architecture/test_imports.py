"""What the API process must never load."""

from __future__ import annotations

import json
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
