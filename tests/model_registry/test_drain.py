"""The registry's way down: leases are waited for, and loads are not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.errors import (
    ModelUnavailable,
)
from tests.model_registry.gated_house import House, hold, settle


async def test_drain_waits_for_leases_and_refuses_new_ones(models: Path) -> None:
    house = await House(models).started()
    done = asyncio.Event()
    holder = asyncio.create_task(hold(house.registry, "alpha", done))
    await settle()
    draining = asyncio.create_task(house.registry.drain(60.0))
    await settle()
    assert not house.registry.is_ready
    assert not draining.done()
    with pytest.raises(ModelUnavailable, match="shutting down"):
        await hold(house.registry, "alpha", done)
    done.set()
    assert await draining
    await holder
    await house.registry.stop()
    assert house.registry.card("alpha").state == "unloaded"


async def test_drain_gives_up_at_its_limit(models: Path) -> None:
    house = await House(models).started()
    holder = asyncio.create_task(hold(house.registry, "alpha", asyncio.Event()))
    await settle()
    assert not await house.registry.drain(0.0)
    await house.registry.stop()
    assert house.factory.engines[0].is_stopped
    holder.cancel()
    await asyncio.wait({holder})


async def test_stop_cancels_loads_even_before_their_first_step(models: Path) -> None:
    house = House(models)
    await house.registry.start()
    await house.registry.stop()
    assert house.registry.card("alpha").state == "unloaded"
    assert not house.factory.engines
    await house.registry.stop()
