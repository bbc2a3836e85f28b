"""The requests that are being answered, so that a server that stops can refuse new ones and end the old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import InternalError, ModelUnavailable, NibbleError


class _Running:
    """One request: the task that answers it, and the error that it is to end with."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.task = task
        self.error: NibbleError | None = None


class RunningRequests:
    """Every request of the process that holds or awaits a model. Owned by the event loop."""

    def __init__(self) -> None:
        self._running: set[_Running] = set()
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._running)

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def drain(self) -> None:
        """Refuse new requests from now on, and let those that run go on. ``/ready`` turns to 503."""
        self._is_draining = True

    def end(self, error: NibbleError) -> None:
        """End every running request with ``error``: a stream sends it as its last frame."""
        for running in self._running:
            if running.error is None:
                running.error = error
                running.task.cancel()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Count the current task as one. Raises ModelUnavailable while draining, or the error of ``end``."""
        task = asyncio.current_task()
        if task is None:
            raise InternalError("a request runs in a task")
        if self._is_draining:
            raise ModelUnavailable("The server is shutting down.", retry_after_s=5.0)
        running = _Running(task)
        self._running.add(running)
        try:
            yield
        except asyncio.CancelledError:
            if running.error is None:
                raise
            raise running.error from None
        finally:
            self._running.discard(running)
