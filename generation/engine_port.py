"""The seam between text and tokens: what the generation room needs of an engine, and no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from engine import events
from engine.request import EngineRequest


class EnginePort(Protocol):
    """An engine as the generation room sees it. The real one is ``engine.engine.Engine``."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[list[events.Event], None]:
        """Run ``request``; each item is what one engine step brought. Closing the iterator cancels it.

        Raises an error of ``engine.errors``; before ``Accepted`` when the request cannot be served.
        """
        ...
