"""Entries of the running server, gathered and written together: no request ever waits for the disk."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from engine.errors import ModelUnavailable
from generation.events import Usage
from routes.day_usage import DayUsage, UsageQuery
from server.usage.usage_store import UsageStoreError

_GATHER_S: Final = 1.0
"""What a killed process may lose of its entries."""
_LONGEST_PAUSE_S: Final = 60.0
_REST_S: Final = 10.0
"""After the last entries the file is closed: an idle server holds nothing."""

_Row = tuple[str, str, str]
_COUNTS: Final = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


class StorePort(Protocol):
    """``server.usage.usage_store.UsageStore``. Its methods block."""

    def add(self, rows: Sequence[DayUsage]) -> None: ...

    def rest(self) -> None: ...

    def read(self, query: UsageQuery) -> list[DayUsage]: ...


class Ledger:
    """Implements ``routes.day_usage.UsagePort``. Owned by the event loop; one thread at a time writes for it.

    A disk that fails keeps the entries in memory, a row per day, key and model, and is tried again.
    """

    def __init__(
        self,
        store: StorePort,
        *,
        gather_s: float = _GATHER_S,
        rest_s: float = _REST_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._gather_s = gather_s
        self._rest_s = rest_s
        self._pause_s = gather_s
        self._wall = wall
        self._rows: dict[_Row, DayUsage] = {}
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    def enter(self, key: str, model: str, usage: Usage) -> None:
        """Count one request of today. Never fails, and never waits."""
        day = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC).date().isoformat()
        self._add(
            DayUsage(
                day=day,
                key=key,
                model=model,
                requests=1,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
            )
        )
        self._schedule()

    async def usage(self, query: UsageQuery) -> Sequence[DayUsage]:
        try:
            await self._write()
            return await asyncio.to_thread(self._store.read, query)
        except UsageStoreError as error:
            raise ModelUnavailable(f"The ledger cannot be read now: {error}", retry_after_s=10.0) from None

    async def close(self) -> None:
        """Write what is left. Told in the log if it cannot be."""
        self._stop_timers()
        if self._writer is not None:
            await asyncio.wait({self._writer})
        try:
            await self._write()
        except UsageStoreError as error:
            self._log.error("usage is lost", rows=len(self._rows), reason=str(error))
        self._stop_timers()
        await asyncio.to_thread(self._store.rest)

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._rest_timer):
            if timer is not None:
                timer.cancel()

    def _add(self, row: DayUsage) -> None:
        place = (row.day, row.key, row.model)
        old = self._rows.get(place)
        self._rows[place] = row if old is None else _sum(old, row)

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._writer = asyncio.create_task(self._write_or_tell(), name="usage")

    async def _write_or_tell(self) -> None:
        try:
            await self._write()
        except UsageStoreError as error:
            if self._pause_s == self._gather_s:
                self._log.error("usage cannot be written; it is kept, and tried again", reason=str(error))
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._schedule()
        else:
            self._pause_s = self._gather_s

    def _rest_later(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        self._rest_timer = asyncio.get_running_loop().call_later(self._rest_s, self._begin_rest)

    def _begin_rest(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._rest(), name="usage rests")

    async def _rest(self) -> None:
        async with self._writing:
            await _outlive(asyncio.ensure_future(asyncio.to_thread(self._store.rest)))

    async def _write(self) -> None:
        """Raises UsageStoreError, with the entries still here."""
        async with self._writing:
            if not self._rows:
                return
            rows, self._rows = self._rows, {}
            work = asyncio.ensure_future(asyncio.to_thread(self._store.add, tuple(rows.values())))
            try:
                # A request that asks for figures may go away; what it began to write is written all the same.
                await _outlive(work)
            finally:
                self._rest_later()
                if work.cancelled() or work.exception() is not None:
                    for row in rows.values():
                        self._add(row)


async def _outlive(work: asyncio.Future[None]) -> None:
    """Wait for ``work`` to its end even when cancelled, since a thread cannot be. Raises what it raises."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    work.result()


def _sum(one: DayUsage, other: DayUsage) -> DayUsage:
    return msgspec.structs.replace(
        one, **{name: getattr(one, name) + getattr(other, name) for name in _COUNTS}
    )
