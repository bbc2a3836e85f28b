from __future__ import annotations

import json

import pytest

from routes.effective import EFFECTIVE_HEADER
from tests.fakes.house import BODIES, COMPLETIONS_PATH, House


async def told(house: House, path: str, **fields: object) -> dict[str, object]:
    async with house.client() as client:
        reply = await client.post(path, json=BODIES[path] | fields, headers={EFFECTIVE_HEADER: "1"})
    assert reply.status_code == 200, reply.text
    found: dict[str, object] = json.loads(reply.headers[EFFECTIVE_HEADER])
    return found


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_effective_parameters_are_told_to_who_asks(path: str, stream: bool) -> None:
    house = House()
    effective = await told(house, path, stream=stream, temperature=0.5, top_k=-1, stop="é", seed=None)
    assert effective["temperature"] == 0.5
    assert effective["top_k"] == 0, "as the engine takes it"
    assert effective["stop"] == ["é"]
    assert effective["top_p"] == 1.0
    (asked,) = house.engine.requests
    assert effective["max_tokens"] == asked.max_tokens
    defaulted = effective["defaulted"]
    assert isinstance(defaulted, list)
    assert {"top_p", "seed", "max_tokens"} <= set(defaulted)
    assert not {"temperature", "top_k", "stop"} & set(defaulted)


async def test_what_no_header_could_hold_stays_away() -> None:
    effective = await told(House(), COMPLETIONS_PATH, logit_bias={str(n): 1 for n in range(5_000)})
    assert "logit_bias" not in effective
    assert "logit_bias" not in str(effective["defaulted"])


@pytest.mark.parametrize("value", [None, "0"])
async def test_nothing_is_told_to_who_does_not_ask(value: str | None) -> None:
    headers = {} if value is None else {EFFECTIVE_HEADER: value}
    async with House().client() as client:
        reply = await client.post(COMPLETIONS_PATH, json=BODIES[COMPLETIONS_PATH], headers=headers)
    assert EFFECTIVE_HEADER not in reply.headers


async def test_another_value_is_refused_by_name() -> None:
    house = House()
    async with house.client() as client:
        reply = await client.post(
            COMPLETIONS_PATH, json=BODIES[COMPLETIONS_PATH], headers={EFFECTIVE_HEADER: "yes"}
        )
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, EFFECTIVE_HEADER)
    assert house.telemetry.last.ends == ["invalid_request"]
    assert house.registry.leased == 0
