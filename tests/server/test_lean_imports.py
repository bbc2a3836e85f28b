"""Libraries without what nobody asks them for: nobody notices, and whoever wants it after all has it."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.server.nibble_process import ROOT

_PROGRAM = """
import json
from server.lean_imports import import_fastapi
import_fastapi()
from fastapi import FastAPI
from fastapi.openapi import models
from pydantic import BaseModel

class Made(BaseModel):
    size: int

app = FastAPI(title="Later")

@app.post("/made")
def make(made: Made) -> Made:
    return made

print(json.dumps({
    "deferred": not models.OpenAPI.__pydantic_complete__,
    "others": Made.__pydantic_complete__ and dict(BaseModel.model_config) == {},
    "document": app.openapi()["paths"]["/made"]["post"]["responses"]["200"]["description"],
    "built": models.OpenAPI.__pydantic_complete__,
}))
"""


_OTHERS = """
import json
import sys
from server.lean_imports import import_fastapi, import_structlog
import_structlog()
import_fastapi()
import server.banner, server.app
alone = sorted({"rich", "attr", "pygments"} & sys.modules.keys())
import structlog
try:
    raise ValueError("mend it")
except ValueError:
    structlog.get_logger().exception("told")
import rich.console
print(json.dumps({"alone": alone, "later": rich.console.Console.__name__}))
"""


def _told_by(program: str) -> tuple[list[str], object]:
    """Lines before the last, and the last, read as JSON."""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    return told[:-1], json.loads(told[-1])


def test_what_is_left_out_is_not_imported_and_can_be_later() -> None:
    lines, told = _told_by(_OTHERS)
    assert told == {"alone": [], "later": "Console"}
    assert lines[-1] == "ValueError: mend it"


def test_models_of_the_document_are_built_when_one_is_wanted_and_others_at_once() -> None:
    _, told = _told_by(_PROGRAM)
    assert told == {
        "deferred": True,
        "others": True,
        "document": "Successful Response",
        "built": True,
    }
