"""Makes room for a model: asks whether it is missing, asks whom to unload, and has it done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engine.errors import InsufficientMemory
from model_registry.adapted_model import AdaptedModel
from model_registry.admission import Admission
from model_registry.allowance import Allowance
from model_registry.eviction import Resident, choose_victims
from model_registry.model import Model

_logger = logging.getLogger("nibble.registry")


class RoomMaker:
    """Owned by the registry, and with it by the event loop."""

    def __init__(
        self,
        admission: Admission,
        models: Callable[[], Iterable[Model]],
        may_go: Callable[[Model], bool],
        unload: Callable[[Model], None],
    ) -> None:
        """``models`` are all there are; ``unload`` begins to unload one of those that ``may_go``."""
        self._admission = admission
        self._models = models
        self._may_go = may_go
        self._unload = unload

    async def make_room(self, model: Model) -> Allowance | None:
        """Unload idle models until ``model`` fits; what it may take beside its weights, if anything bounds that.

        Raises InsufficientMemory; unloads none where that is foreseen.
        """
        await self._make_room(_ForModel(self._admission, model))
        loaded = [each for each in self._models() if each is not model and each.engine is not None]
        return self._admission.allowance(model, loaded)

    async def make_room_beside(self, adapted: AdaptedModel) -> None:
        """The same for an adapter that is to be loaded into its running model."""
        await self._make_room(_ForAdapter(self._admission, adapted))

    async def _make_room(self, claim: _ForModel | _ForAdapter) -> None:
        while True:
            others = [each for each in self._models() if each is not claim.model]
            loaded = [each for each in others if each.engine is not None]
            missing = claim.missing_bytes(others, loaded)
            if missing <= 0:
                return
            if leaving := [each.unload for each in others if each.unload is not None]:
                # What is on its way out may be enough.
                await asyncio.wait(leaving)
                continue
            by_id = {str(place): each for place, each in enumerate(loaded)}
            victims = choose_victims(
                [
                    Resident(
                        id=key,
                        held_bytes=self._admission.held_bytes(each),
                        used_at=each.used_at,
                        may_go=self._may_go(each),
                    )
                    for key, each in by_id.items()
                ],
                missing,
            )
            if victims is None and 0 < missing <= self._admission.booked_bytes:
                # What loads now may take less than it is allowed, and may be idle soon.
                await self._admission.booking_ends()
                continue
            if victims is None and self._could_be_alone(claim, others, loaded):
                # Slowly, with weights that exceed the memory: as it would be loaded if nothing else had been.
                victims = tuple(by_id)
            if victims is None:
                raise claim.refusal(loaded)
            for key in victims:
                victim = by_id[key]
                _logger.info("unloading %s, to make room for %s", victim.id, claim.id)
                self._unload(victim)

    def _could_be_alone(
        self, claim: _ForModel | _ForAdapter, others: list[Model], loaded: list[Model]
    ) -> bool:
        is_nothing_else = bool(loaded) and not any(each.load for each in others)
        return is_nothing_else and all(map(self._may_go, loaded)) and claim.could_alone(loaded)


@dataclass(frozen=True, slots=True)
class _ForModel:
    """Memory that a model asks for, to be loaded."""

    admission: Admission
    model: Model

    @property
    def id(self) -> str:
        return self.model.id

    def missing_bytes(self, others: list[Model], loaded: list[Model]) -> int:
        is_alone = not loaded and not any(each.load for each in others)
        return self.admission.missing_bytes(self.model, loaded, is_alone=is_alone)

    def could_alone(self, loaded: list[Model]) -> bool:
        return self.admission.could_alone(self.model, loaded)

    def refusal(self, loaded: list[Model]) -> InsufficientMemory:
        return self.admission.refusal(self.model, loaded)


@dataclass(frozen=True, slots=True)
class _ForAdapter:
    """Memory that an adapter asks for, beside its running model. It is read, not mapped: it fits or it does not."""

    admission: Admission
    adapted: AdaptedModel

    @property
    def id(self) -> str:
        return self.adapted.id

    @property
    def model(self) -> Model:
        return self.adapted.model

    def missing_bytes(self, others: list[Model], loaded: list[Model]) -> int:
        return self.admission.missing_beside(self.adapted, [*loaded, self.model])

    def could_alone(self, loaded: list[Model]) -> bool:
        return False

    def refusal(self, loaded: list[Model]) -> InsufficientMemory:
        return self.admission.refusal_beside(self.adapted, [*loaded, self.model])
