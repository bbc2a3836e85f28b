from __future__ import annotations

from tests.fakes.house import House


async def test_health_says_nothing_of_models() -> None:
    house = House()
    house.registry.is_ready = False
    async with house.client() as client:
        reply = await client.get("/health")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


async def test_ready_is_503_until_a_model_can_answer_and_from_when_the_server_stops() -> None:
    house = House()
    house.registry.is_ready = False
    async with house.client() as client:
        reply = await client.get("/ready")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        house.registry.is_ready = True
        assert (await client.get("/ready")).status_code == 200
        house.services.running.drain()
        reply = await client.get("/ready")
        assert (reply.status_code, reply.json()) == (503, {"status": "stopping"})
