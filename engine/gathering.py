"""What a request that is answered once has been told so far. Owned by the event loop; nothing here blocks."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from engine.embedding import Embeddings, Vectors
from engine.question import Answer

ResultT = TypeVar("ResultT")


class Gathering(Generic[ResultT]):
    """The answer of one request on its way; ``result`` waits until it is whole."""

    def __init__(self) -> None:
        self._result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        # A request that was given up is told of no failure; asyncio would log that nobody looked.
        self._result.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: the answer is whole, or the request failed."""
        return self._result.done()

    def fail(self, error: Exception) -> None:
        """End with ``error``. The first end stands."""
        if not self.is_over:
            self._result.set_exception(error)

    async def result(self) -> ResultT:
        """The whole answer. Raises the request's failure. One who gives up waiting does not end it."""
        return await asyncio.shield(self._result)


class AnswerGathering(Gathering[Answer]):
    """The one frame that answers a question."""

    def add(self, answer: Answer) -> None:
        if not self.is_over:
            self._result.set_result(answer)


class AdapterGathering(Gathering[None]):
    """The one frame that says that an adapter is there, or gone."""

    def add(self) -> None:
        if not self.is_over:
            self._result.set_result(None)


class VectorGathering(Gathering[Embeddings]):
    """The vectors of ``count`` inputs, which come in any order."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._vectors: list[bytes] = [b""] * count
        self._left = count
        self._prompt_tokens = 0

    def accept(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens

    def add(self, part: Vectors) -> None:
        if self.is_over:
            return
        size = len(part.rows) // len(part.indices)
        for place, index in enumerate(part.indices):
            self._vectors[index] = part.rows[place * size : (place + 1) * size]
        self._left -= len(part.indices)
        if self._left == 0:
            self._result.set_result(Embeddings(tuple(self._vectors), self._prompt_tokens))
