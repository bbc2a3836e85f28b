"""Requests with a constraint, read on a thread of their own: compiling one may take a second.

Meanwhile the worker's receiving thread goes on: other requests come in, and a cancel reaches what waits here.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from engine.frames import Submit


class CompilingIntake:
    """A line of requests, read one after another. ``take`` and ``withdraw`` are for the receiving thread alone."""

    def __init__(self, read: Callable[[Submit], Callable[[], None] | None]) -> None:
        """``read`` prepares a request on this thread, and gives what hands it over, or None if it was refused."""
        self._read = read
        self._line: queue.SimpleQueue[Submit] = queue.SimpleQueue()
        # Guards the two sets, and that nothing is handed over once it was withdrawn.
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._withdrawn: set[int] = set()
        self._thread: threading.Thread | None = None

    def take(self, frame: Submit) -> None:
        """Put a request at the end of the line. The thread starts with the first one."""
        with self._lock:
            self._held.add(frame.request)
        self._line.put(frame)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="compiling", daemon=True)
            self._thread.start()

    def withdraw(self, request: int) -> None:
        """Forget a request, if it is here: it will not be handed over."""
        with self._lock:
            if request in self._held:
                self._withdrawn.add(request)

    def _run(self) -> None:
        while True:
            self._serve(self._line.get())

    def _serve(self, frame: Submit) -> None:
        with self._lock:
            is_wanted = frame.request not in self._withdrawn
        hand_over = self._read(frame) if is_wanted else None
        with self._lock:
            if hand_over is not None and frame.request not in self._withdrawn:
                hand_over()
            self._held.discard(frame.request)
            self._withdrawn.discard(frame.request)
