"""The list, read and searched."""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Mapping
from importlib import resources

import msgspec

from model_registry.catalog.catalog_entry import CatalogEntry, ListedEntry

FILE_NAME = "models.toml"


@functools.cache
def catalog() -> Mapping[str, CatalogEntry]:
    """Every entry by its id, in the order of the file: the small before the large, the lineage last."""
    text = (resources.files("model_registry.catalog") / FILE_NAME).read_text(encoding="utf-8")
    return parse(text)


def listed_catalog() -> tuple[ListedEntry, ...]:
    """The same for programs: what the command prints for them, and the admin's route answers."""
    return tuple(
        ListedEntry(**msgspec.structs.asdict(entry), memory_bytes=entry.memory_bytes)
        for entry in catalog().values()
    )


def parse(text: str) -> dict[str, CatalogEntry]:
    """Raises ValueError for a file that is no list of entries, or has an id twice."""
    tables = tomllib.loads(text).get("models", [])
    try:
        entries = msgspec.convert(tables, list[CatalogEntry])
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    found: dict[str, CatalogEntry] = {}
    for entry in entries:
        if entry.id in found:
            raise ValueError(f"'{entry.id}' is there twice")
        found[entry.id] = entry
    return found


def nearest(model_id: str) -> list[str]:
    """Ids that one may have meant."""
    return difflib.get_close_matches(model_id.lower()[:200], catalog(), n=3, cutoff=0.5)
