"""Which adapters there are beside those named at the start: files that sources found, and paths that settings name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from model_registry.adapter_base import AdapterBases, Base
from model_registry.model_adapter import is_adapter_name
from model_registry.model_settings import ModelSettings
from model_registry.sources.found_adapter import FoundAdapter, find_adapter
from model_registry.sources.found_model import FoundModel, ModelSource


class PlacedAdapter(msgspec.Struct, frozen=True):
    """An adapter, and the model that it is for or why it is for none."""

    found: FoundAdapter
    model: str | None = None
    failure: str | None = None
    """With a model: why it cannot be served with that one."""


class AdapterFinder:
    """Blocking, and asked by one look at a time. Remembers headers."""

    def __init__(self) -> None:
        self._bases = AdapterBases()
        self._named: dict[Path, tuple[int, int] | None] = {}
        """Files that settings name, as they were seen last."""

    @property
    def has_changed(self) -> bool:
        """Whether a file that settings name is another since the last look."""
        return any(_version(path) != version for path, version in self._named.items())

    def place(
        self,
        found: Iterable[FoundAdapter],
        models: Mapping[str, tuple[FoundModel, ModelSource]],
        settings: Mapping[str, ModelSettings],
        derived: Collection[str] = (),
    ) -> tuple[list[PlacedAdapter], list[str]]:
        """Every adapter with its model; and what is wrong with the settings, one sentence each.

        ``settings`` of models, by id, name adapters that were found, or files as ``NAME=PATH``; what they name is
        theirs, and nothing is guessed about it. ``derived`` are the models that were made of others, which an adapter
        fits as it fits those, and is not taken to be for.
        """
        bases = {model_id: _base(*each) for model_id, each in models.items() if each[0].failure is None}
        by_name = {each.name: each for each in found}
        placed: list[PlacedAdapter] = []
        problems: list[str] = []
        spoken_for: set[str] = set()
        self._named = {}
        for model_id, own in settings.items():
            for entry in own.adapters or ():
                adapter = self._named_adapter(model_id, entry, by_name)
                if isinstance(adapter, str):
                    problems.append(adapter)
                    continue
                if "=" not in entry:
                    spoken_for.add(adapter.name)
                if (base := bases.get(model_id)) is not None:
                    placed.append(PlacedAdapter(adapter, model_id, self._bases.fault(adapter, base)))
        for adapter in by_name.values():
            if adapter.name not in spoken_for:
                fit = self._bases.fit(adapter, [base for base in bases.values() if base.id not in derived])
                placed.append(PlacedAdapter(adapter, fit.model, fit.failure))
        files = (path for base in bases.values() for path in base.files)
        self._bases.keep([*files, *(each.found.path for each in placed)])
        return placed, problems

    def _named_adapter(
        self, model_id: str, entry: str, found: Mapping[str, FoundAdapter]
    ) -> FoundAdapter | str:
        name, equals, text = entry.partition("=")
        if not is_adapter_name(name):
            return f"the setting adapters of '{model_id}' has '{entry[:200]}', which is neither NAME nor NAME=PATH"
        if not equals:
            adapter = found.get(name.lower())
            return (
                adapter
                or f"the setting adapters of '{model_id}' names '{name}', and no adapter file is called so"
            )
        path = Path(text).expanduser().absolute()
        self._named[path] = _version(path)
        try:
            return find_adapter(path, name)
        except OSError as error:
            return f"the adapter {path} of '{model_id}' is not served: {error.strerror}"


def _base(model: FoundModel, source: ModelSource) -> Base:
    try:
        return Base(model.id, source.files(model))
    except ValueError:
        # Of a package, which is one file.
        return Base(model.id, (model.path,))


def _version(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
