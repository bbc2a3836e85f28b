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
    """What deleting ``found`` comes to. Raises ModelProtected where it is not nibble's to delete."""
    try:
        if isinstance(found, AdaptedModel):
            return _of_adapter(found, shelf)
        files = found.source.files(found.found)
    except ValueError as error:
        raise ModelProtected(str(error), param="model") from None
    return Removal(
        id=found.id,
        files=files,
        file_bytes=found.found.file_bytes,
        effects=(*_names(found.id, shelf), *_effects(found, shelf, config)),
    )


def _of_adapter(adapted: AdaptedModel, shelf: Shelf) -> Removal:
    """Its file may be that of several models."""
    path = adapted.file()
    same = [each for each in shelf.adapters() if each.found is not None and each.found.path == path]
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


def _names(model_id: str, shelf: Shelf) -> Iterator[SideEffect]:
    if names := shelf.aliases_of(model_id):
        listed = ", ".join(f"'{name}'" for name in names)
        yield SideEffect(model_id, f"its other names go with it: {listed}")


def _effects(model: Model, shelf: Shelf, config: RegistryConfig) -> Iterator[SideEffect]:
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
            path = adapted.adapter.adapter.path
            yield SideEffect(adapted.id, f"'{adapted.id}' goes with it; {path} stays, for another model")
