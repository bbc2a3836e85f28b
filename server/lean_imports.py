"""Libraries, imported without what this server never asks them for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager


def import_structlog() -> None:
    """Import structlog without Rich, with which it could draw tracebacks; ours are plain, and the banner is, too.

    With what Rich imports in turn it is most of that import. Called before any other import of structlog; later it
    does nothing.
    """
    with _seemingly_missing("rich", "better_exceptions"):
        importlib.import_module("structlog")


def import_fastapi() -> None:
    """Import FastAPI, but build the models of OpenAPI's document only when one is first used.

    They take a quarter of that import, some 45 ms of each start, and serve to write a document that ``routes`` writes
    by itself. Called before any other import of FastAPI; later it does nothing.
    """
    with _models_built_late():
        importlib.import_module("fastapi.openapi.models")


@contextmanager
def _seemingly_missing(*names: str) -> Generator[None]:
    """To who tries to import them here: packages that nobody has imported yet."""
    missing = [name for name in names if name not in sys.modules]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]  # the import system's word for it
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


@contextmanager
def _models_built_late() -> Generator[None]:
    """A model takes its configuration from its bases, and so here from that of all models."""
    from pydantic import BaseModel, ConfigDict

    before = BaseModel.model_config
    BaseModel.model_config = ConfigDict(defer_build=True)
    try:
        yield
    finally:
        BaseModel.model_config = before
