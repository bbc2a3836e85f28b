"""The field ``lora``: which adapters a request is answered with, and which it is refused for."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest

from engine.adapter import AdapterUse
from routes.effective import EFFECTIVE_HEADER
from tests.fakes.house import BODIES, House
from tests.fakes.registry import MODEL, card

POET, CLERK = f"{MODEL}:poet", f"{MODEL}:clerk"


def _house() -> House:
    house = House()
    for model_id in (CLERK, POET):
        name = model_id.rpartition(":")[2]
        house.registry.known[model_id] = msgspec.structs.replace(card(model_id), parent=MODEL, adapter=name)
    house.registry.known["other:painter"] = msgspec.structs.replace(
        card("other:painter"), parent="other", adapter="painter"
    )
    return house


async def _ask(house: House, path: str, model: str, lora: object) -> httpx.Response:
    async with house.client() as client:
        body: dict[str, Any] = BODIES[path] | {"model": model, "lora": lora}
        return await client.post(path, json=body, headers={EFFECTIVE_HEADER: "1"})


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("model", "lora", "uses"),
    [
        (MODEL, None, {}),
        (MODEL, [], {}),
        (MODEL, [{"id": "poet"}], {"poet": 1.0}),
        (MODEL, [{"id": POET, "scale": 0.5}], {"poet": 0.5}),
        (MODEL, [{"id": 0, "scale": -2}, {"id": 1}], {"clerk": -2.0, "poet": 1.0}),
        (MODEL, [{"id": "poet", "scale": 0}, {"id": "clerk", "scale": None}], {"clerk": 1.0}),
        (POET, None, {"poet": 1.0}),
        (POET, [{"id": "poet", "scale": 0.25}], {"poet": 0.25}),
        (POET, [{"id": "clerk"}], {"poet": 1.0, "clerk": 1.0}),
        (POET, [{"id": "poet", "scale": 0.0}], {}),
    ],
)
async def test_the_engine_is_asked_for_what_the_request_names(
    path: str, model: str, lora: object, uses: dict[str, float]
) -> None:
    house = _house()
    reply = await _ask(house, path, model, lora)
    assert reply.status_code == 200, reply.text
    (asked,) = house.engine.requests
    assert asked.adapters == tuple(AdapterUse(name, scale) for name, scale in uses.items())
    assert house.registry.adapters == tuple(uses)
    told = json.loads(reply.headers[EFFECTIVE_HEADER])
    assert told["lora"] == [{"id": name, "scale": scale} for name, scale in uses.items()]
    assert ("lora" in told["defaulted"]) == (lora is None)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("lora", "param", "why"),
    [
        ([{"id": "painter"}], "lora[0].id", "it has: 'clerk', 'poet'"),
        ([{"id": "poet"}, {"id": "other:painter"}], "lora[1].id", "it has: 'clerk', 'poet'"),
        ([{"id": 2}], "lora[0].id", "has no adapter 2"),
        ([{"id": "poet"}, {"id": 1}], "lora[1].id", "named twice"),
        ([{"id": "poet", "scale": 16.5}], "lora[0].scale", ""),
        ([{"id": "poet", "scale": "1"}], "lora[0].scale", ""),
        ([{"id": True}], "lora[0].id", ""),
        ([{"id": -1}], "lora[0].id", ""),
        ([{"id": ""}], "lora[0].id", ""),
        ([{"scale": 1}], "lora[0].id", ""),
        ([{"id": "poet", "path": "/etc/passwd"}], "lora[0].path", ""),
        ([{"id": "poet"}] * 17, "lora", ""),
        ({"id": "poet"}, "lora", ""),
    ],
)
async def test_what_cannot_be_is_a_400_that_names_it(path: str, lora: object, param: str, why: str) -> None:
    house = _house()
    reply = await _ask(house, path, MODEL, lora)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert why in error["message"]
    assert house.registry.leased == 0, "nothing is loaded for it"
    assert house.telemetry.last.ends == ["invalid_request"]


async def test_a_key_reaches_no_adapter_that_it_may_not_use_by_its_model() -> None:
    house = _house()
    house.callers.anybody.models = frozenset({MODEL, CLERK})
    reply = await _ask(house, "/v1/completions", MODEL, [{"id": "poet"}])
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].endswith("has no adapter 'poet'; it has: 'clerk'.")
    reply = await _ask(house, "/v1/completions", MODEL, [{"id": 0}])
    assert reply.status_code == 200
    assert house.registry.adapters == ("clerk",)
