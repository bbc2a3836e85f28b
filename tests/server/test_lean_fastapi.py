"""FastAPI without its models of OpenAPI's document: nobody notices, and whoever wants one has it built."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.server.nibble_process import ROOT

_PROGRAM = """
import json
from server.lean_fastapi import import_fastapi
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


def test_models_of_the_document_are_built_when_one_is_wanted_and_others_at_once() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(told.stdout) == {
        "deferred": True,
        "others": True,
        "document": "Successful Response",
        "built": True,
    }
