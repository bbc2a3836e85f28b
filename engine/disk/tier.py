"""The disk below the host's memory: what memory drops is written, and what a prompt begins with is read ahead.

The engine thread never waits for the disk. One thread writes, from a queue that drops its oldest when it is full;
another reads, checks, and delivers what it read as an order to the engine thread, which holds the sequence back
until then. What is read goes into host memory first, and from there takes the same way as all that is saved.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import NoReturn

from engine.backend import SlotState, Tokens
from engine.disk.directory import DiskPrefix, PrefixDirectory
from engine.prefix_store import LEAST_SAVED, StoredPrefix

_logger = logging.getLogger("nibble.worker")
_READ_SHARE = 16
"""Reading so many tokens and checking them takes less than computing one: 20 to 60 against 2500 microseconds."""
_MOST_FAILURES = 3
"""So many failed writes in a row, and nothing more is written."""


Savable = tuple[Tokens, str, Callable[[], SlotState | None]]
"""Tokens, their scope, and what makes their state, or None where that fails."""


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """An order to the engine thread: ``prefix`` was read. ``state`` is None if it was damaged or is gone."""

    prefix: DiskPrefix
    state: SlotState | None


@dataclass(slots=True)
class DiskFigures:
    """Totals since the worker began. Each is written by one thread."""

    read_prefixes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    dropped: int = 0
    """Prefixes that were lost because the disk was slower than memory filled up, or failed."""


class DiskTier:
    """Implements ``engine.prefix_store.LowerTier``. Methods are for the engine thread, unless they say more."""

    def __init__(
        self, directory: PrefixDirectory, *, deliver: Callable[[Fetched], None], queue_bytes: int
    ) -> None:
        """``deliver`` is called on the reading thread. ``queue_bytes`` bounds what waits to be written: what is
        in that queue takes memory beyond the store's own limit. One prefix may wait whatever its size.
        """
        self._directory = directory
        self._deliver = deliver
        self._queue_bytes = queue_bytes
        self.figures = DiskFigures()
        self._reads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._writes: deque[StoredPrefix] = deque()
        self._waiting_bytes = 0
        self._failures = 0
        self._is_writing = False
        self._is_closing = False
        self._change = threading.Condition()

    def start(self) -> None:
        """Start the two threads. They end with the process."""
        threading.Thread(target=_for_ever, args=(self.read_one,), name="prefix reader", daemon=True).start()
        threading.Thread(target=_for_ever, args=(self.write_one,), name="prefix writer", daemon=True).start()

    # -- reading ------------------------------------------------------------------------------------------------

    def match(
        self, prompt: Tokens, scope: str, *, held: int, most_tokens: int, most_bytes: int
    ) -> DiskPrefix | None:
        """What is worth reading for ``prompt``, of which ``held`` tokens are in memory already."""
        prefix = self._directory.match(prompt, scope, most_tokens=most_tokens, most_bytes=most_bytes)
        if prefix is None:
            return None
        gain = min(prefix.shared(prompt), len(prompt) - 1) - held
        return prefix if gain >= max(LEAST_SAVED, len(prefix.tokens) // _READ_SHARE) else None

    def fetch(self, prefix: DiskPrefix) -> None:
        """Have ``prefix`` read and delivered, whatever becomes of it."""
        self._reads.put(partial(self._read, prefix))

    def _read(self, prefix: DiskPrefix) -> None:
        state = None
        try:
            state = self._directory.read(prefix)
        finally:
            # Sequences wait for this: they must be let go, and can always be computed.
            self._deliver(Fetched(prefix, state))
        if state is not None:
            self.figures.read_prefixes += 1
            self.figures.read_bytes += state.nbytes

    @property
    def pending_reads(self) -> int:
        return self._reads.qsize()

    def read_one(self) -> None:
        """Carry out the next order of the reading thread, on which this is called; blocks until there is one."""
        order = self._reads.get()
        try:
            order()
        except Exception:
            _logger.exception("a saved prefix could not be read")

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, prefix: StoredPrefix) -> None:
        """Queue ``prefix`` for writing, unless a file holds it already."""
        if (holder := self._directory.holder(prefix.tokens, prefix.scope)) is not None:
            self._reads.put(partial(self._directory.touch, holder))
            return
        if self._failures >= _MOST_FAILURES:
            return
        with self._change:
            self._writes.append(prefix)
            self._waiting_bytes += prefix.state.nbytes
            while len(self._writes) > 1 and self._waiting_bytes > self._queue_bytes:
                self._waiting_bytes -= self._writes.popleft().state.nbytes
                self.figures.dropped += 1
            self._change.notify_all()

    def refuse(self, prefix: StoredPrefix) -> None:
        """Remove the file of ``prefix``: llama.cpp does not take it."""
        holder = self._directory.holder(prefix.tokens, prefix.scope)
        if holder is not None and len(holder.tokens) == len(prefix.tokens):
            # At once, or it would be offered again before the file is gone.
            self._directory.forget(holder)
            self._reads.put(partial(self._directory.remove, holder))

    @property
    def pending_writes(self) -> int:
        return len(self._writes)

    def write_one(self) -> None:
        """Write the oldest in the queue, on the writing thread; blocks until there is one."""
        with self._change:
            self._change.wait_for(lambda: bool(self._writes) and not self._is_closing)
            prefix = self._writes.popleft()
            self._waiting_bytes -= prefix.state.nbytes
            self._is_writing = True
        self._write(prefix.tokens, prefix.scope, prefix.state)
        with self._change:
            self._is_writing = False
            self._change.notify_all()

    def _write(
        self,
        tokens: Tokens,
        scope: str,
        state: SlotState,
        used_ns: int | None = None,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        try:
            written = self._directory.write(tokens, scope, state, used_ns=used_ns, is_late=is_late)
        except Exception as error:
            self._failures += 1
            self.figures.dropped += 1
            if self._failures == 1 or self._failures == _MOST_FAILURES:
                end = "; none is saved any more" if self._failures == _MOST_FAILURES else ""
                _logger.warning("a prefix could not be saved to disk: %s%s", error, end)
        else:
            self._failures = 0
            self.figures.written_bytes += written

    def finish(
        self,
        slots: Iterable[Savable],
        stored: Iterable[StoredPrefix],
        limit_s: float,
    ) -> None:
        """Write what there is time for: ``slots``, then ``stored``, then what was queued.

        Each the most recently used first. Called once, when nothing runs any more.
        """
        deadline_s = time.monotonic() + limit_s

        def is_late() -> bool:
            return time.monotonic() >= deadline_s

        with self._change:
            # The writer ends what it is at, and takes nothing more.
            self._is_closing = True
            if not self._change.wait_for(lambda: not self._is_writing, limit_s):
                return
        # What is written later was used earlier, and is to be removed earlier.
        used_ns = time.time_ns()
        prefixes = chain(stored, reversed(self._writes))
        made: Iterable[Savable] = ((p.tokens, p.scope, partial(_state_of, p)) for p in prefixes)
        for rank, (tokens, scope, make_state) in enumerate(chain(slots, made)):
            if is_late() or self._failures >= _MOST_FAILURES:
                return
            if self._directory.holder(tokens, scope) is None and (state := make_state()) is not None:
                self._write(tokens, scope, state, used_ns - rank, is_late)


def _for_ever(work: Callable[[], None]) -> NoReturn:
    while True:
        work()


def _state_of(prefix: StoredPrefix) -> SlotState:
    return prefix.state
