"""Where the programs are that only these tests need; without them, tests skip, and in CI fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nibble" / "tools"


def find_program(name: str) -> Path:
    """``prometheus`` or ``promtool``: the one that ``make test`` fetched, or the machine's own."""
    fetched = _CACHE / "prometheus" / "usr" / "bin" / name
    if fetched.is_file():
        return fetched
    own = shutil.which(name)
    return Path(own) if own else _missing(f"{name} is missing: make test fetches it where there is apt-get")


def systemd_analyze() -> tuple[Path, dict[str, str]]:
    """The program, and the variables that it needs: the machine's own needs none."""
    if own := shutil.which("systemd-analyze"):
        return Path(own), {}
    program = next(_CACHE.glob("systemd/**/bin/systemd-analyze"), None)
    if program is None:
        _missing("systemd-analyze is missing: make test fetches it where there is apt-get")
    libraries = {str(library.parent) for library in _CACHE.glob("lib*/**/*.so*")}
    units = next(_CACHE.glob("systemd/**/sysinit.target")).parent
    return program, {"LD_LIBRARY_PATH": ":".join(sorted(libraries)), "SYSTEMD_UNIT_PATH": str(units)}


def find_kubectl() -> Path:
    """The machine's own. Debian 12 has 1.20, which knows no kustomization of today, so that none can be fetched."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("there is no kubectl on this machine")
    return Path(found)


def compose_schema() -> Path:
    """The compose specification's JSON schema, as docker-compose brings it."""
    found = next((_CACHE / "docker-compose").rglob("compose_spec.json"), None)
    return found or _missing(
        "the schema of compose files is missing: make test fetches it where there is apt-get"
    )


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
