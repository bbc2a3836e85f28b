"""FastAPI, imported without what this server never asks it for."""

from __future__ import annotations

import importlib

from pydantic import BaseModel, ConfigDict


def import_fastapi() -> None:
    """Import FastAPI, but build the models of OpenAPI's document only when one is first used.

    They take a quarter of that import, some 45 ms of each start, and serve to write a document that ``routes`` writes
    by itself. A model takes its configuration from its bases, and so here from that of all models, as long as this
    lasts. Called before any other import of FastAPI; later it does nothing.
    """
    before = BaseModel.model_config
    BaseModel.model_config = ConfigDict(defer_build=True)
    try:
        importlib.import_module("fastapi.openapi.models")
    finally:
        BaseModel.model_config = before
