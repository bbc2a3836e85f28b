"""Streams without end on every model of a fleet, each followed by the next, and what came of them all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.soak.alphabet import Alphabet, Voice
from tests.soak.client import SoakClient, Told
from tests.soak.fleet import Fleet

PROMPT_TOKENS = 24
_PAUSE_S = 0.05


@dataclass(slots=True)
class Sung:
    """One stream and who was to sing it."""

    model: str
    voice: Voice
    told: Told


@dataclass(slots=True)
class Load:
    """Owned by the event loop."""

    fleet: Fleet
    alphabets: dict[str, Alphabet]
    tokens: int
    width: int
    """Streams at once on each model."""
    sung: list[Sung] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _is_over: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Streams run while this is entered; those that are under way at the end come to their end."""
        workers = [
            asyncio.create_task(self._sing(model)) for model in self.alphabets for _ in range(self.width)
        ]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*workers)

    async def _sing(self, model: str) -> None:
        client = SoakClient(self.fleet.port)
        while not self._is_over:
            number = next(self._numbers)
            voice = self.alphabets[model].voice(number)
            # No two prompts are alike, so nothing is taken for the same request again.
            prompt = [10 + (number // 200**place) % 200 for place in range(PROMPT_TOKENS)]
            told = await client.ask(model, voice, self.tokens, prompt=prompt, seed=number)
            self.sung.append(Sung(model, voice, told))
            if not told.is_whole:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(_PAUSE_S)

    def of(self, model: str) -> list[Sung]:
        return [one for one in self.sung if one.model == model]
