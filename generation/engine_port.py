"""The seam between text and tokens: what the generation room needs of an engine, and no more."""

from __future__ import annotations

from typing import Protocol

from engine.config import ModelFacts
from engine.embedding import EmbeddingRequest, Embeddings
from engine.event_stream import Take
from engine.question import Answer, Question
from engine.request import EngineRequest


class EnginePort(Protocol):
    """An engine as the generation room sees it. The real one is ``engine.engine.Engine``."""

    @property
    def facts(self) -> ModelFacts:
        """What the engine found out about its model."""
        ...

    async def generate(self, request: EngineRequest, take: Take) -> None:
        """Run ``request`` to its end, and tell ``take`` what each engine step brings. Cancelling the caller cancels it.

        Raises an error of ``engine.errors``; before ``Accepted`` when the request cannot be served. What ``take``
        raises ends the request, and is raised.
        """
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Vectors of the request's inputs, or scores of its pairs. Cancelling the caller cancels the request.

        Raises an error of ``engine.errors``.
        """
        ...

    async def ask(self, question: Question) -> Answer:
        """What is known without computing. Raises an error of ``engine.errors``."""
        ...
