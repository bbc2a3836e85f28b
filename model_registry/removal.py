"""Deleting a model or an adapter: whether it may be, which files go, and what else is otherwise by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.errors import ModelProtected
from model_registry.adapted_model import AdaptedModel
from model_registry.blobs import Blobs
from model_registry.config import RegistryConfig
from model_registry.model import Model
from model_registry.model_adapter import adapter_name
from model_registry.model_settings import ModelSettings
from model_registry.shelf import Shelf
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError

_logger = logging.getLogger("nibble.registry")


class SideEffect(msgspec.Struct, frozen=True):
    """Something that is otherwise once a model is deleted, and is not its own end."""

    model: str
    """The id of what it is about, for whoever may know of some models alone."""
    text: str
    """A sentence that holds before and after."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deleted. Nothing is done until ``carry_out``."""

    id: str
    files: tuple[Path, ...]
    file_bytes: int
    adapters: tuple[tuple[str, str], ...] = ()
    """Ids of models and names of their adapters that are to be forgotten, where the file is an adapter's."""
    effects: tuple[SideEffect, ...] = ()

    def carry_out(self, store: ModelStore) -> None:
        """Delete the files, and what ``store`` knows. Blocking. Raises ModelProtected."""
        try:
            # The first part goes last: what is left after an interruption is still seen, and can be removed.
            for file in reversed(self.files):
                # What nibble has brought goes with the last of its names; a link to a file elsewhere goes by itself.
                Blobs(file.parent).remove(file)
            for model_id, name in self.adapters:
                store.forget_adapter(model_id, name)
            if not self.adapters:
                store.forget(self.id)
        except OSError as error:
            raise ModelProtected(
                f"{error.filename} cannot be deleted ({error.strerror})", param="model"
            ) from error
        except StoreError as error:
            # The files are gone, and with them the model; its aliases lead nowhere until another has its id.
            _logger.warning("%s", error)


def plan_removal(found: Model | AdaptedModel, shelf: Shelf, config: RegistryConfig) -> Removal:
    """What deleting ``found`` comes to. Raises ModelProtected where it is not nibble's to delete, or where a setting
    names it.
    """
    try:
        if isinstance(found, AdaptedModel):
            return _of_adapter(found, shelf, config)
        files = found.source.files(found.found)
    except ValueError as error:
        raise ModelProtected(str(error), param="model") from None
    return Removal(
        id=found.id,
        files=files,
        file_bytes=found.found.file_bytes,
        effects=(*_names(found.id, shelf), *_effects(found, shelf, config)),
    )


def _of_adapter(adapted: AdaptedModel, shelf: Shelf, config: RegistryConfig) -> Removal:
    """Its file may be that of several models."""
    path = adapted.path
    same = [each for each in shelf.adapters() if each.path == path]
    for each in same:
        _check_settings(each, shelf, config)
    others = (
        SideEffect(each.id, f"'{each.id}' goes with it: it is the same file")
        for each in same
        if each is not adapted
    )
    return Removal(
        id=adapted.id,
        files=(path,),
        file_bytes=adapted.file_bytes,
        adapters=tuple((each.adapter.model, each.name) for each in same),
        effects=(*_names(adapted.id, shelf), *others),
    )


def _check_settings(adapted: AdaptedModel, shelf: Shelf, config: RegistryConfig) -> None:
    """Raises ModelProtected where a setting names the adapter that goes with it no more, or whose file is its owner's.

    What the store says goes with a file of the models directory; what a person has written is his to take back.
    """
    if adapted.found is None:
        raise ModelProtected(
            f"'{adapted.id}' is named by the setting adapters (--adapters, NIBBLE_ADAPTERS or adapters in nibble.toml):"
            " take it out there, and restart",
            param="model",
        )
    model = shelf.named(adapted.adapter.model)
    in_file = _entry(adapted.name, model.settings_in_file(config))
    if in_file is not None:
        names = (model.id, *(alias.lower() for alias in sorted(model.aliases)))
        table = next(name for name in names if config.models.get(name, ModelSettings()).adapters is not None)
        raise ModelProtected(
            f"'{adapted.id}' is named by adapters under [models.{table}] in nibble.toml: take '{in_file}' out there,"
            " and reload",
            param="model",
        )
    entry = _entry(adapted.name, model.stored_settings())
    if entry is not None and not _is_in(config.models_dir, adapted.path):
        left = ",".join(each for each in model.stored_settings().adapters or () if each != entry)
        raise ModelProtected(
            f"'{adapted.id}' is {adapted.path}, which is not in the models directory and not nibble's to delete: take"
            f" '{entry}' out of the setting adapters of '{model.id}' (nibble set {model.id} adapters={left})",
            param="model",
        )


def _is_in(directory: Path | None, path: Path) -> bool:
    return directory is not None and path.parent.resolve() == directory.resolve()


def _entry(name: str, settings: ModelSettings) -> str | None:
    """What of the setting ``adapters`` names the adapter, if anything does."""
    return next((entry for entry in settings.adapters or () if adapter_name(entry) == name), None)


def _names(model_id: str, shelf: Shelf) -> Iterator[SideEffect]:
    if names := shelf.aliases_of(model_id):
        listed = ", ".join(f"'{name}'" for name in names)
        yield SideEffect(model_id, f"its other names go with it: {listed}")


def _effects(model: Model, shelf: Shelf, config: RegistryConfig) -> Iterator[SideEffect]:
    for name in dict.fromkeys(name for name in config.preload if name in {model.id, *model.aliases}):
        yield SideEffect(
            model.id,
            f"the setting preload names '{name}': take it out there, or the server does not start the next time",
        )
    twin = shelf.find(model.id)
    if twin is not model:
        yield SideEffect(
            twin.id,
            f"requests for '{model.id}' find no model any more: '{twin.id}', which has answered them, keeps its own"
            f" name alone ('nibble alias {model.id} {twin.id}' gives it that one, too)",
        )
        lent = model.own_settings(config).given().keys() - twin.own_settings(config).given().keys()
        if lent:
            listed = ", ".join(sorted(lent))
            yield SideEffect(twin.id, f"'{twin.id}' is served without the settings of '{model.id}': {listed}")
    for each in shelf:
        if each is not model and shelf.find(each.id) is model:
            yield SideEffect(each.id, f"'{each.id}' answers its requests itself again")
    for adapted in shelf.adapters():
        if adapted.adapter.model == model.id:
            yield SideEffect(
                adapted.id, f"'{adapted.id}' goes with it; {adapted.path} stays, for another model"
            )
