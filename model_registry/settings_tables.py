"""The tables ``[models.NAME]`` of ``nibble.toml``: whose they are, and which are nobody's."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

from model_registry.model_settings import ModelSettings


def table_of(tables: Mapping[str, ModelSettings], model_id: str, aliases: Collection[str]) -> ModelSettings:
    """What is said of a model by its id, and under that by its ``aliases``. Names of ``tables`` are lower case."""
    own = tables.get(model_id, ModelSettings())
    for alias in sorted(aliases):
        own = own.over(tables.get(alias.lower(), ModelSettings()))
    return own


def lost_tables(
    tables: Mapping[str, ModelSettings], ids: Collection[str], aliases: Mapping[str, str]
) -> Iterator[str]:
    """Which name no model, one sentence each; ``aliases`` lead to ids. A model of that name may come yet."""
    known = {*ids, *(alias.lower() for alias, model_id in aliases.items() if model_id in ids)}
    for name in tables:
        if name not in known:
            near = difflib.get_close_matches(name[:200], sorted(known), n=1, cutoff=0.4)
            hint = f": the nearest known is '{near[0]}'" if near else ": 'nibble list' tells the ids"
            yield f"the settings [models.{name[:200]}] are those of no model that is here{hint}"
