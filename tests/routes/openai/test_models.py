from __future__ import annotations

import msgspec

from tests.fakes.facts import CONTEXT
from tests.fakes.house import House
from tests.fakes.registry import MODEL, card
from tests.fakes.specification import validate

LOADED = {
    "id": MODEL,
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "nibble",
    "context_length": CONTEXT,
    "max_model_len": CONTEXT,
    "state": "ready",
    "failure": None,
    "capabilities": ["chat", "completion", "tools"],
    "parent": None,
}


async def test_models_are_listed_loaded_or_not() -> None:
    house = House()
    house.registry.known["org/other"] = card("org/other", is_loaded=False)
    unloaded = {
        "id": "org/other",
        "context_length": None,
        "max_model_len": None,
        "state": "registered",
        "capabilities": None,
        "parent": None,
    }
    async with house.client() as client:
        listed = (await client.get("/v1/models")).json()
        assert listed == {"object": "list", "data": [LOADED, LOADED | unloaded]}
        assert (await client.get(f"/v1/models/{MODEL}")).json() == LOADED
        assert (await client.get("/v1/models/org/other")).json() == LOADED | unloaded
    assert house.registry.leased == 0


async def test_what_failed_tells_why_with_an_adapter_and_without() -> None:
    house = House()
    base = card("org/other", is_loaded=False)
    failed = {"state": "failed", "failure": "its file was cut"}
    adapted = {"id": "org/other:poet", "parent": "org/other", "adapter": "poet"}
    for changes in (failed, failed | adapted):
        each = msgspec.structs.replace(base, **changes)
        house.registry.known[each.id] = each
    async with house.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]
        told = {each["id"]: (each["state"], each["failure"]) for each in listed}
        assert told == {
            MODEL: ("ready", None),
            "org/other": ("failed", "its file was cut"),
            "org/other:poet": ("failed", "its file was cut"),
        }
        assert (await client.get("/v1/models/org/other:poet")).json()["failure"] == "its file was cut"


async def test_it_is_the_shape_of_the_specification() -> None:
    async with House().client() as client:
        validate((await client.get("/v1/models")).json(), "ListModelsResponse")
