"""Where Node.js and the npm client are; without them, tests skip, and in CI fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.server.nibble_process import ROOT

NODE_FOLDER = ROOT / "tests" / "clients" / "node"


def find_node() -> Path:
    """The program, where the client is installed as well."""
    found = shutil.which("node")
    if found and (NODE_FOLDER / "node_modules" / "openai").is_dir():
        return Path(found)
    missing = "the npm client is missing: make test installs it" if found else "Node.js is missing"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
