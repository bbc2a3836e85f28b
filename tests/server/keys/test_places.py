from __future__ import annotations

import asyncio

import pytest

from server.keys.places import NoPlace, Places


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Holder:
    """A task that holds a place until it is let go."""

    def __init__(self, places: Places) -> None:
        self.is_in = False
        self._go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(places))

    async def _hold(self, places: Places) -> None:
        entered_s = await places.enter()
        self.is_in = True
        try:
            await self._go.wait()
        finally:
            places.leave(entered_s)

    async def leave(self) -> None:
        self._go.set()
        await self.task


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_first_come_first_served_and_one_too_many_is_refused() -> None:
    clock = Clock()
    places = Places(2, 1, clock)
    holders = [Holder(places) for _ in range(3)]
    await settled()
    assert [holder.is_in for holder in holders] == [True, True, False]
    with pytest.raises(NoPlace) as full:
        await places.enter()
    assert full.value.retry_after_s is None, "nothing has ended that could be measured"
    clock.now = 4.0
    await holders[0].leave()
    await settled()
    assert holders[2].is_in
    waiting = Holder(places)
    await settled()
    with pytest.raises(NoPlace) as full:
        await places.enter()
    assert full.value.retry_after_s == 4.0, "one waits already, and two end every four seconds"
    for holder in (*holders[1:], waiting):
        await holder.leave()
    assert (places.running, places.waiting) == (0, 0)


async def test_no_limit_counts_all_the_same() -> None:
    places = Places(None)
    holders = [Holder(places) for _ in range(50)]
    await settled()
    assert places.running == 50
    for holder in holders:
        await holder.leave()
    assert places.running == 0


@pytest.mark.parametrize("is_granted", [False, True])
async def test_who_leaves_the_queue_takes_no_place_along(is_granted: bool) -> None:
    places = Places(1, 2)
    first, second, third = (Holder(places) for _ in range(3))
    await settled()
    if is_granted:
        # In the step in which the place becomes free, before the one who gets it can run.
        first._go.set()
        await first.task
    second.task.cancel()
    await asyncio.wait({second.task})
    if not is_granted:
        await first.leave()
    await settled()
    assert third.is_in
    await third.leave()
    assert (places.running, places.waiting) == (0, 0)


async def test_a_larger_limit_lets_in_who_waits() -> None:
    places = Places(1, 1)
    holders = [Holder(places) for _ in range(2)]
    await settled()
    places.resize(None, 0)
    await settled()
    assert holders[1].is_in
    for holder in holders:
        await holder.leave()
