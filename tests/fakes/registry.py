"""A registry of a few models on one fake engine each, whose loading a test can hold up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from engine.errors import ModelNotFound, NibbleError
from model_registry.adapter_detail import AdapterDetail
from model_registry.amendment import Amendment
from model_registry.card import ModelCard
from model_registry.file_facts import FileFacts
from model_registry.model_detail import ModelDetail, ModelMemory, ModelUse
from model_registry.model_settings import ModelSettings
from model_registry.removal import SideEffect
from model_registry.state import ModelState
from tests.fakes.engine import FakeEngine, Gate
from tests.fakes.facts import facts

MODEL = "smollm2-135m-instruct"
FINGERPRINT = "fp_0123456789ab"


def card(model_id: str = MODEL, *, is_loaded: bool = True) -> ModelCard:
    return ModelCard(
        id=model_id,
        created=1_700_000_000,
        owned_by="nibble",
        path=f"{model_id}.gguf",
        file_bytes=98_362_432,
        state="ready" if is_loaded else "registered",
        facts=facts() if is_loaded else None,
        fingerprint=FINGERPRINT,
    )


def detail(of: ModelCard, amendment: Amendment) -> ModelDetail:
    is_loaded = of.state == "ready"
    use = ModelUse(
        leases=0,
        waiting=0,
        running=0,
        queued=0,
        idle_s=3.5,
        keep_alive_left_s=None,
        kv_tokens=0,
        kv_capacity_tokens=8192,
        prompt_tokens_total=10,
        generation_tokens_total=20,
        tokens_per_s=100.0,
        restarts=0,
    )
    return ModelDetail(
        id=of.id,
        state=of.state,
        failure=of.failure,
        warning=None,
        aliases=amendment.aliases or (),
        adapters=(),
        twin=None,
        tags=amendment.tags or (),
        notes=amendment.notes or "",
        created=of.created,
        owned_by=of.owned_by,
        path=of.path,
        files=(of.path,),
        digests=(None,),
        file_bytes=of.file_bytes,
        fingerprint=of.fingerprint,
        file=FileFacts(
            known_by="header",
            path=of.path,
            file_bytes=of.file_bytes,
            mtime_ns=0,
            sha256=None,
            source="",
            parent="",
            licence="apache-2.0",
            quantisation="Q4_1",
            architecture="llama",
            parameters=135_000_000,
            context=8192,
            template_sha256="cd" * 32,
            capabilities=("chat", "completion", "tools"),
        ),
        settings=amendment.settings or ModelSettings(),
        configured=ModelSettings(),
        is_pinned=False,
        is_outdated=False,
        facts=of.facts,
        load_s=0.5 if is_loaded else None,
        memory=ModelMemory(estimated_bytes=of.file_bytes, resident_bytes=1 << 28 if is_loaded else None),
        use=use if is_loaded else None,
    )


@dataclass(frozen=True, slots=True)
class FakeLease:
    card: ModelCard
    engine: FakeEngine


class FakeRegistry:
    """Owned by the event loop of the test."""

    def __init__(self, engine: FakeEngine, *cards: ModelCard) -> None:
        self.engine = engine
        self.known = {item.id: item for item in cards or (card(),)}
        self.is_ready = True
        self.loading: Gate | None = None
        self.load_error: NibbleError | None = None
        self.amendments: dict[str, Amendment] = {}
        self.unloads: list[tuple[str, float, bool]] = []
        self.leased = 0
        self.adapters: tuple[str, ...] = ()
        """Of the last lease."""
        self.released = 0
        self.side_effects: tuple[SideEffect, ...] = ()
        """Of a removal."""

    def cards(self) -> list[ModelCard]:
        return list(self.known.values())

    def card(self, model_id: str) -> ModelCard:
        try:
            return self.known[model_id]
        except KeyError:
            raise ModelNotFound(
                f"There is no model '{model_id}'. Nearest: {', '.join(self.known)}.", param="model"
            ) from None

    def details(self) -> list[ModelDetail]:
        return [self.detail(model_id) for model_id in self.known]

    def detail(self, model_id: str, *, serving: bool = False) -> ModelDetail:
        return detail(self.card(model_id), self.amendments.get(model_id, Amendment()))

    def adapter(self, name: str) -> AdapterDetail | None:
        found = self.card(name)
        if found.adapter is None or found.parent is None:
            return None
        return AdapterDetail(
            id=found.id,
            parent=found.parent,
            adapter=found.adapter,
            path=found.path,
            file_bytes=found.file_bytes,
            failure=None,
        )

    async def load(self, model_id: str) -> None:
        async with self.lease(model_id):
            self._become(model_id, "ready")

    async def unload(self, model_id: str, *, wait_s: float = 0.0, force: bool = False) -> None:
        self.card(model_id)
        self.unloads.append((model_id, wait_s, force))
        if self.load_error:
            raise self.load_error
        self._become(model_id, "unloaded")

    async def amend(self, model_id: str, amendment: Amendment) -> None:
        self.card(model_id)
        self.amendments[model_id] = amendment

    def _become(self, model_id: str, state: ModelState) -> None:
        self.known[model_id] = msgspec.structs.replace(self.known[model_id], state=state)

    async def remove(self, model_id: str) -> tuple[SideEffect, ...]:
        self.card(model_id)
        del self.known[model_id]
        return self.side_effects

    @asynccontextmanager
    async def lease(self, model_id: str, *, adapters: Sequence[str] = ()) -> AsyncIterator[FakeLease]:
        found = self.card(model_id)
        self.adapters = tuple(adapters)
        self.leased += 1
        try:
            if self.loading:
                await self.loading.pass_through()
            if self.load_error:
                raise self.load_error
            yield FakeLease(found, self.engine)
        finally:
            self.released += 1
