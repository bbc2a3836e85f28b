"""Every model there is, by id and by the other names that it goes by."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.adapter import Adapter
from engine.errors import InvalidRequest, ModelNotFound, ModelUnavailable
from model_registry.adapted_model import AdaptedModel, failed_adapter
from model_registry.adapter_finder import AdapterFinder, PlacedAdapter
from model_registry.amendment import Amendment
from model_registry.card import ModelCard
from model_registry.config import RegistryConfig
from model_registry.look import Look
from model_registry.model import Model
from model_registry.model_adapter import ModelAdapter
from model_registry.model_settings import ModelSettings
from model_registry.settings_tables import lost_tables, table_of
from model_registry.sources.found_adapter import FoundAdapter
from model_registry.sources.found_model import FoundModel, ModelSource
from model_registry.store.model_record import ModelRecord
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import NameRefused, StoreError

_logger = logging.getLogger("nibble.registry")


class Shelf:
    """Asks the sources and the store what there is. Owned by the registry; decides nothing about loading."""

    def __init__(self, sources: Sequence[ModelSource], store: ModelStore, config: RegistryConfig) -> None:
        self._sources = sources
        self._store = store
        self._config = config
        self._models: dict[str, Model] = {}
        self._adapted: dict[str, AdaptedModel] = {}
        self._finder = AdapterFinder()
        self._placed: tuple[PlacedAdapter, ...] = ()
        """Adapters that are believed, their files being what they were at two looks."""
        self._records: Mapping[str, ModelRecord] = {}
        self._aliases: dict[str, str] = {}
        self._twins: dict[str, Model] = {}
        """By the id of the model that each serves in the place of."""
        self._seen: object = None
        self._unsettled: dict[str, tuple[Path, int, int]] = {}
        self.problems: tuple[str, ...] = ()
        """What had to be left out, one sentence each."""

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def reconfigure(self, config: RegistryConfig) -> None:
        """Go by ``config`` from now on; its adapters must be those of before. What it says is for the next look."""
        if config.models != self._config.models:
            # Files and store may be as they were, and yet other adapters are named, or models that are not here.
            self._seen = None
        self._config = config

    def ids(self) -> list[str]:
        """Of models, and of models with an adapter; sorted."""
        return sorted((*self._models, *self._adapted))

    def look(self) -> Look | None:
        """What there is now, where something has changed since the last look; for ``take``. Blocking."""
        signature = ([source.signature() for source in self._sources], self._store.signature)
        if signature == self._seen and not self._unsettled and not self._finder.has_changed:
            return None
        self._seen = signature
        problems: list[str] = []
        records = self._records
        try:
            records = self._store.records()
        except StoreError as error:
            problems.append(str(error))
        found: dict[str, tuple[FoundModel, ModelSource]] = {}
        adapters: list[FoundAdapter] = []
        for source in self._sources:
            findings = source.find()
            problems += findings.problems
            adapters += findings.adapters
            for model in findings.models:
                if first := found.get(model.id):
                    problems.append(f"{model.path} is not served: {first[0].path} has its id '{model.id}'")
                else:
                    found[model.id] = (model, source)
        settings = {model_id: self._settings(model_id, records) for model_id in found}
        derived = {
            each.id for each in records.values() if each.file is not None and each.file.parent in found
        }
        placed, faults = self._finder.place(adapters, found, settings, derived)
        return Look(found, records, (*problems, *faults), tuple(placed))

    def _settings(self, model_id: str, records: Mapping[str, ModelRecord]) -> ModelSettings:
        record = records.get(model_id) or ModelRecord(id=model_id)
        return table_of(self._config.models, model_id, record.aliases).over(record.settings)

    def take(self, look: Look) -> list[Model]:
        """Make it so. Returns the models that are gone, or whose file is another now.

        A file that is new or another is believed when two looks in a row saw it the same: one that is still being
        copied has changed by the next.
        """
        gone = [self._models.pop(model_id) for model_id in [*self._models] if model_id not in look.found]
        unsettled = {}
        for model_id, (found, source) in look.found.items():
            model = self._models.get(model_id)
            if model is not None and model.found.version == found.version:
                continue
            if self._unsettled.get(model_id) != found.version:
                unsettled[model_id] = found.version
                continue
            if model is not None:
                gone.append(model)
            self._models[model_id] = Model(found, source)
            _logger.info("%s is here: %s", model_id, found.failure or found.path)
        self._placed = self._settle(look.adapters, unsettled)
        self._unsettled = unsettled
        for model in gone:
            _logger.info("%s is gone: %s", model.id, model.found.path)
        known = self.problems
        self._name(look.records, look.problems)
        for problem in self.problems:
            if problem not in known:
                _logger.warning("%s", problem)
        return gone

    def _settle(
        self, adapters: Iterable[PlacedAdapter], unsettled: dict[str, tuple[Path, int, int]]
    ) -> tuple[PlacedAdapter, ...]:
        """The same of adapters: those to be believed; until then, what was believed of their files stands."""
        believed = {each.found.version for each in self._placed}
        former = {each.found.path: each for each in self._placed}
        settled = []
        for each in adapters:
            version = each.found.version
            if version in believed or self._unsettled.get(str(each.found.path)) == version:
                settled.append(each)
                continue
            unsettled[str(each.found.path)] = version
            if (old := former.get(each.found.path)) is not None:
                settled.append(old)
        return tuple(settled)

    def fill(self) -> None:
        """Look everywhere, once. Blocking. A store that cannot be read is a problem told, and no reason to fail.

        Raises ModelNotFound if there is no model, or none of an id that is set.
        """
        look = self.look()
        if look is None:
            return
        for model_id, (found, source) in look.found.items():
            self._models[model_id] = Model(found, source)
        self._check_names()
        self._placed = look.adapters
        self._name(look.records, look.problems)

    def _name(self, records: Mapping[str, ModelRecord], problems: tuple[str, ...]) -> None:
        """Tell the models what the store knows, and rebuild the names that are not ids of files."""
        self._records = records
        for model in self:
            model.record = records.get(model.id)
        former, self._adapted = self._adapted, {}
        self.problems = (*problems, *self._pair(), *self._adapt(), *self._adapt_found(former))
        self._aliases = {alias: record.id for record in records.values() for alias in record.aliases}
        self.problems += tuple(lost_tables(self._config.models, self._models, self._aliases))
        for model in self:
            sound = (each for each in self.adapters_of(model) if not each.is_damaged)
            model.adapter_bytes = {each.name: each.file_bytes for each in sound}

    def adapted(self, name: str, *, is_own: bool = False) -> AdaptedModel | None:
        """What has that id or alias, if it is a model with an adapter; with ``is_own``, that id alone."""
        found = name if is_own else self._id(name)
        return None if found is None else self._adapted.get(found)

    def adapters_for(self, model: Model, name: str, adapters: Sequence[str]) -> list[AdaptedModel]:
        """What ``name`` and the names of ``adapters`` mean with ``model``. Raises InvalidRequest."""
        if not self._adapted and not adapters:
            return []
        known = {each.name: each for each in self.adapters_of(model)}
        own = self.adapted(name)
        named = {} if own is None else {own.name: own}
        for each in adapters:
            if each not in known:
                raise InvalidRequest(f"'{model.id}' has no adapter '{each[:200]}' any more", param="lora")
            named[each] = known[each]
        return list(named.values())

    def adapters(self) -> list[AdaptedModel]:
        """Every model with an adapter, sorted by id."""
        return [self._adapted[each_id] for each_id in sorted(self._adapted)]

    def strays(self) -> list[FoundAdapter]:
        """Adapters that are for none of the models here."""
        return [each.found for each in self._placed if each.model is None]

    def adapters_of(self, model: Model) -> list[AdaptedModel]:
        """The same of ``model``, and of the one that it serves in the place of."""
        return [each for each in self.adapters() if each.model is model]

    def adapted_ids(self, model: Model) -> tuple[str, ...]:
        """Ids of ``model`` with an adapter."""
        return tuple(each_id for each_id, each in self._adapted.items() if each.model is model)

    def at(self, path: Path) -> Model | AdaptedModel | None:
        """The model whose file is ``path``, or the one with that adapter."""
        known = (*self, *self.adapters())
        return next((each for each in known if each.found is not None and each.found.path == path), None)

    def own(self, name: str) -> Model:
        """The model of that id, which no alias and no adapter may stand for.

        Raises ModelNotFound, and InvalidRequest for what is another name of a model.
        """
        model = self.named(name)
        if model.id != name:
            raise InvalidRequest(f"'{name[:200]}' is another name of '{model.id}': name that", param="model")
        return model

    def amend(self, model: Model, amendment: Amendment) -> None:
        """Keep new words for ``model``. Blocking.

        Raises InvalidRequest for an alias that is taken, and ModelUnavailable where the store cannot be written.
        """
        for alias in amendment.aliases or ():
            if alias in self._models or alias in self._adapted:
                raise InvalidRequest(
                    f"'{alias}' is the id of a model: an alias must be another name", param="aliases"
                )
        try:
            self._store.amend(model.id, amendment)
        except NameRefused as error:
            raise InvalidRequest(str(error), param="aliases") from None
        except StoreError as error:
            raise ModelUnavailable(str(error)) from error

    def aliases_of(self, model_id: str) -> list[str]:
        """Other names of a model, or of one with an adapter."""
        return [alias for alias, named in self._aliases.items() if named == model_id]

    def knows(self, name: str) -> bool:
        return self._id(name) is not None

    def find(self, name: str) -> Model:
        """The model that serves that id or alias, with an adapter or without: its twin, where it has one.

        Raises ModelNotFound, whose message names the nearest known ones.
        """
        found = self._id(name)
        if found is None:
            raise self.not_found(name)
        return self._twins.get(found) or self._models.get(found) or self._adapted[found].model

    def serving(self) -> list[Model]:
        """Every model in its order, each twin at the place of the one that it serves for, and nowhere else."""
        return list({id(model): model for model in map(self._served_by, self)}.values())

    def _served_by(self, model: Model) -> Model:
        return self._twins.get(model.id, model)

    def named(self, name: str) -> Model:
        """The same, whichever twin may serve it: the model whose file and words are meant. Raises ModelNotFound."""
        found = self._id(name)
        if found is None:
            raise self.not_found(name)
        return self._models.get(found) or self._models[self._adapted[found].adapter.model]

    def bare(self, name: str) -> Model:
        """The same, for what is done to a model without any adapter. Raises ModelNotFound and InvalidRequest."""
        if (adapted := self.adapted(name)) is not None:
            base = adapted.adapter.model
            raise InvalidRequest(f"'{name[:200]}' is '{base}' with an adapter: name '{base}'", param="model")
        return self.named(name)

    def card(self, name: str) -> ModelCard:
        """The same of its card, which tells the adapter. A twin's is under the name that it was asked for by."""
        found = self._id(name)
        if found is None:
            raise self.not_found(name)
        if (twin := self._twins.get(found)) is not None:
            return msgspec.structs.replace(twin.card(), id=found)
        adapted = self._adapted.get(found)
        return self._models[found].card() if adapted is None else adapted.card()

    def _id(self, name: str) -> str | None:
        """What has that id, else what has that alias."""
        for model_id in (name, self._aliases.get(name, "")):
            if model_id in self._models or model_id in self._adapted:
                return model_id
        return None

    def not_found(self, name: str) -> ModelNotFound:
        near = difflib.get_close_matches(name.lower()[:200], {*self.ids(), *self._aliases}, n=3, cutoff=0.4)
        known = near or self.ids()[:5]
        hint = "the nearest known: " if near else "known: "
        names = ", ".join(f"'{name}'" for name in known)
        return ModelNotFound(f"model '{name[:200]}' does not exist; {hint}{names}", param="model")

    def _check_names(self) -> None:
        if not self._models:
            where = self._config.models_dir or "the models directory"
            raise ModelNotFound(
                "there is no model to serve: run 'make setup' for the bundled one,"
                f" or put a .gguf file into {where}"
            )
        # By ids alone: what is said of a model with an adapter or under an alias would reach another.
        adapted = (each.model for each in self._config.adapters)
        for model_id in (*self._config.embed, *self._config.matryoshka, *adapted):
            if model_id not in self._models:
                raise self.not_found(model_id)

    def _adapt(self) -> list[str]:
        """Give every adapter of a model its own id. Returns why some have none, one sentence each."""
        problems = []
        for each in self._config.adapters:
            if each.model not in self._models:
                problems.append(
                    f"the adapter {each.adapter.path} is not served: its model '{each.model}' is gone"
                )
            elif each.id in self._models or each.id in self._adapted:
                problems.append(
                    f"the adapter {each.adapter.path} is not served: another has its id '{each.id}'"
                )
            else:
                self._adapted[each.id] = AdaptedModel(self._served_by(self._models[each.model]), each)
        return problems

    def _pair(self) -> list[str]:
        """Let twins serve in the place of their originals. Returns which could not, one sentence each."""
        problems = []
        self._twins = {}
        for model in self:
            model.original = None
        for model in self:
            record = model.twin
            if record is None:
                continue
            twin = self._models.get(record.id)
            if twin is None or twin.found.failure is not None:
                problems.append(
                    f"'{model.id}' serves its requests itself: its twin '{record.id}' is gone or damaged;"
                    f" 'nibble tune {model.id} --revert' forgets the twin"
                )
            else:
                self._twins[model.id] = twin
                twin.original = model
        return problems

    def _adapt_found(self, former: Mapping[str, AdaptedModel]) -> list[str]:
        """The same of adapters that were found. What is as it was stays the same object."""
        problems = []
        for each in self._placed:
            model = self._models.get(each.model or "")
            if model is None:
                problems.append(each.failure or f"{each.found.path} is not served: its model is gone")
                continue
            version = f"{each.found.file_bytes}-{each.found.changed_ns}"
            adapter = ModelAdapter(model.id, Adapter(each.found.name, str(each.found.path), version=version))
            if adapter.id in self._models or adapter.id in self._adapted:
                problems.append(f"{each.found.path} is not served: another has its id '{adapter.id}'")
                continue
            model = self._served_by(model)
            if each.failure is None:
                made = AdaptedModel(model, adapter, each.found)
            else:
                made = failed_adapter(model, adapter, each.found, each.failure)
            old = former.get(adapter.id)
            # What loading it has told outlives a look; what its file tells is told anew.
            is_kept = old is not None and old.is_that(made) and old.is_damaged == made.is_damaged
            self._adapted[adapter.id] = old if old is not None and is_kept else made
        return problems
