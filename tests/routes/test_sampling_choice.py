"""A model's own sampling: for what a request leaves out, and for nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from model_registry.model_settings import ModelSettings
from model_registry.sampling_defaults import SamplingDefaults
from routes.effective import EFFECTIVE_HEADER
from routes.openai.sampling_fields import SamplingFields
from tests.fakes.house import BODIES, House
from tests.fakes.registry import MODEL, card

OWN = SamplingDefaults(
    temperature=0.3,
    top_p=0.9,
    top_k=-1,
    min_p=0.05,
    repeat_penalty=1.1,
    presence_penalty=-1,
    frequency_penalty=2,
)


@pytest.fixture
def house() -> House:
    house = House()
    house.registry.known = {MODEL: msgspec.structs.replace(card(), sampling=OWN)}
    return house


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_request_leaves_out_is_the_models(house: House, path: str, stream: bool) -> None:
    async with house.client() as client:
        reply = await client.post(
            path, json=BODIES[path] | {"stream": stream, "top_p": 1}, headers={EFFECTIVE_HEADER: "1"}
        )
    (asked,) = house.engine.requests
    sampling = asked.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.3, 1.0, 0, 0.05)
    assert (sampling.repeat_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1.1, -1, 2)
    effective = json.loads(reply.headers[EFFECTIVE_HEADER])
    assert (effective["temperature"], effective["top_p"]) == (0.3, 1.0)
    assert "temperature" in effective["defaulted"]
    assert "top_p" not in effective["defaulted"]


@pytest.mark.parametrize("path", BODIES)
async def test_null_asks_for_what_openai_has(house: House, path: str) -> None:
    await house.post(path, BODIES[path] | {"temperature": None, "min_p": 0})
    (asked,) = house.engine.requests
    assert (asked.sampling.temperature, asked.sampling.min_p, asked.sampling.top_p) == (1.0, 0.0, 0.9)


@pytest.mark.parametrize("path", BODIES)
async def test_mirostat_stands_in_for_the_models_filters_too(house: House, path: str) -> None:
    assert (await house.post(path, BODIES[path] | {"mirostat": 2})).status_code == 200
    (asked,) = house.engine.requests
    assert (asked.sampling.top_p, asked.sampling.min_p, asked.sampling.temperature) == (1.0, 0.0, 0.3)


@pytest.mark.parametrize("name", ["mirostat", "dynatemp_range"])
async def test_a_request_that_contradicts_the_models_temperature_is_refused(house: House, name: str) -> None:
    house.registry.known = {MODEL: msgspec.structs.replace(card(), sampling=SamplingDefaults(temperature=0))}
    for path, body in BODIES.items():
        reply = await house.post(path, body | {name: 1})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
        assert (await house.post(path, body | {name: 1, "temperature": 1})).status_code == 200


async def test_the_properties_of_a_model_tell_them(house: House) -> None:
    async with house.client() as client:
        told = (await client.get("/props")).json()["default_generation_settings"]["params"]
    assert (told["temperature"], told["top_k"], told["typical_p"]) == (0.3, 0, 1.0)


def test_a_default_has_the_bounds_of_the_field() -> None:
    fields = SamplingFields.model_json_schema()["properties"]
    (settings,) = msgspec.json.schema(ModelSettings)["$defs"].values()
    for name in SamplingDefaults.__struct_fields__:
        assert bounds(settings["properties"][name]) == bounds(fields[name]), name


def bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """Of the number that is allowed beside null."""
    (number,) = [each for each in schema["anyOf"] if each["type"] != "null"]
    return dict(number)
