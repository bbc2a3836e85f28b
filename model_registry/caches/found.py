"""All caches of this machine."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

from model_registry.caches import huggingface, lmstudio, ollama
from model_registry.caches.cached_model import CachedModel, CacheName

CACHES: tuple[CacheName, ...] = get_args(CacheName)
_ROOTS: dict[CacheName, Callable[[], list[Path]]] = {
    "ollama": ollama.roots,
    "lmstudio": lmstudio.roots,
    "huggingface": huggingface.roots,
}
_MODELS: dict[CacheName, Callable[[Path], list[CachedModel]]] = {
    "ollama": ollama.models,
    "lmstudio": lmstudio.models,
    "huggingface": huggingface.models,
}


def cached_models(caches: Iterable[CacheName] = CACHES) -> list[CachedModel]:
    """What is found in these caches, each model once."""
    found: dict[tuple[str, str], CachedModel] = {}
    for cache in caches:
        for root in _ROOTS[cache]():
            for model in _MODELS[cache](root):
                found.setdefault((cache, model.name), model)
    return list(found.values())


def places(cache: CacheName) -> list[Path]:
    """Where one would be."""
    return _ROOTS[cache]()


def named(models: Iterable[CachedModel], name: str) -> CachedModel:
    """The one that ``name`` means: its whole name, or a part that no other has. Raises LookupError, with the mend."""
    models = list(models)
    wanted = name.lower()
    exact = [model for model in models if model.name.lower() in (wanted, f"{wanted}:latest")]
    fitting = exact or [model for model in models if wanted in model.name.lower()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise LookupError(f"'{name}' means several: {', '.join(model.name for model in fitting[:10])}")
    near = difflib.get_close_matches(name, [model.name for model in models], n=3, cutoff=0.3)
    hint = f"the nearest: {', '.join(near)}" if near else "'nibble import --found' lists what there is"
    raise LookupError(f"'{name}' is in none of the caches: {hint}")
