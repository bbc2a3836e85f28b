"""A registry of a few models on one fake engine each, whose loading a test can hold up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.config import ModelFacts
from engine.errors import ModelNotFound, NibbleError
from model_registry.card import ModelCard
from tests.fakes.engine import FakeEngine, Gate

MODEL = "smollm2-135m-instruct"
FINGERPRINT = "fp_0123456789ab"
CONTEXT = 8192


def facts(context: int = CONTEXT) -> ModelFacts:
    return ModelFacts(
        description="llama 135M Q4_1",
        architecture="llama",
        parameters=135_000_000,
        file_bytes=98_362_432,
        context=context,
        context_trained=context,
        parallel=8,
        kv_layout="partitioned",
        kv_bytes=1 << 28,
        threads=2,
        threads_reason="the quota of the cgroup",
        backend="CPU",
        vocabulary=49152,
        has_chat_template=True,
        build="0.3.36",
        load_s=0.5,
    )


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
        self.leased = 0
        self.released = 0

    def cards(self) -> list[ModelCard]:
        return list(self.known.values())

    def card(self, model_id: str) -> ModelCard:
        try:
            return self.known[model_id]
        except KeyError:
            raise ModelNotFound(
                f"There is no model '{model_id}'. Nearest: {', '.join(self.known)}.", param="model"
            ) from None

    @asynccontextmanager
    async def lease(self, model_id: str) -> AsyncIterator[FakeLease]:
        found = self.card(model_id)
        self.leased += 1
        try:
            if self.loading:
                await self.loading.pass_through()
            if self.load_error:
                raise self.load_error
            yield FakeLease(found, self.engine)
        finally:
            self.released += 1
