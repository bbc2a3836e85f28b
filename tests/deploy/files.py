"""What deploy/ and docker/ hold, read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from server.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def resolved(text: str) -> str:
    """``text`` with the defaults of its variables, as compose reads it where none is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def check_settings(environment: dict[str, str]) -> Settings:
    """What the server would be set to: every variable is one of its settings, with a value that it takes.

    Those of OpenTelemetry are its SDK's to read.
    """
    own = {name: value for name, value in environment.items() if not name.startswith("OTEL_")}
    given = {name.removeprefix(PREFIX).lower(): value for name, value in own.items() if value}
    unknown = given.keys() - Settings.model_fields.keys()
    assert not unknown, f"no such settings: {unknown}"
    return Settings(**given)  # type: ignore[arg-type]  # validated
