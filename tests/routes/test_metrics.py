from __future__ import annotations

from tests.fakes.house import House


async def test_figures_come_as_they_are_rendered() -> None:
    house = House()
    async with house.client() as client:
        reply = await client.get("/metrics")
    assert reply.text == "nibble_up 1\n"
    assert reply.headers["content-type"] == "text/plain; version=1.0.0"
    assert house.registry.leased == 0
