"""The table that ``nibble list`` prints: a row for each model, within 80 columns but for what has to be said of it."""

from __future__ import annotations

from collections.abc import Iterable

from model_registry.adapted_model import AdaptedModel
from model_registry.file_facts import file_facts
from model_registry.model import Model

_NOTHING = "-"
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
"""As the names of models have them."""
_HEADINGS = ("ID", "TYPE", "PARAMETERS", "SIZE", "NOTES")


def model_list(models: Iterable[Model], adapted: Iterable[AdaptedModel]) -> list[str]:
    """Lines: headings, models, and models with an adapter. Where there is no model, nothing."""
    rows = [*map(_row, models), *map(_adapter_row, adapted)]
    if not rows:
        return []
    id_width, type_width = (max(len(row[at]) for row in (_HEADINGS, *rows)) for at in (0, 1))
    return [
        f"{name:<{id_width}}  {kind:<{type_width}}  {parameters:>10}  {size:>9}  {notes}".rstrip()
        for name, kind, parameters, size, notes in (_HEADINGS, *rows)
    ]


def _row(model: Model) -> tuple[str, ...]:
    facts = file_facts(model)
    notes = (
        f"also {', '.join(model.aliases)}" if model.aliases else "",
        f"made of {facts.parent}" if facts.parent else "",
        f"served by {model.twin.id}" if model.twin else "",
        model.found.failure or "",
    )
    return (
        model.id,
        facts.quantisation or _NOTHING,
        _count(facts.parameters),
        _megabytes(facts.file_bytes),
        "; ".join(filter(None, notes)),
    )


def _adapter_row(adapted: AdaptedModel) -> tuple[str, ...]:
    size = _megabytes(adapted.found.file_bytes) if adapted.found else _NOTHING
    return adapted.id, "adapter", _NOTHING, size, adapted.failure.message if adapted.failure else ""


def _count(parameters: int) -> str:
    for size, unit in _UNITS:
        if parameters >= size:
            figure = parameters / size
            return f"{figure:.1f}{unit}" if figure < 9.95 else f"{figure:,.0f}{unit}"
    return str(parameters) if parameters else _NOTHING


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
