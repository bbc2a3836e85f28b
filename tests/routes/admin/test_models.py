"""All that is known of models, what is said of them, and their end; and keys that keep to theirs."""

from __future__ import annotations

import httpx
import jsonschema
import msgspec
import pytest

from model_registry.model_settings import ModelSettings
from model_registry.removal import SideEffect
from routes.document import document_of
from routes.request_policy import RequestPolicy
from tests.fakes.house import ADMIN_BODIES, House
from tests.fakes.registry import MODEL, card
from tests.routes.admin.administrator import BASE, restricted


async def test_all_models_are_told_and_each_by_its_name(house: House, http: httpx.AsyncClient) -> None:
    listed = (await http.get(BASE)).json()
    one = (await http.get(f"{BASE}/{MODEL}")).json()
    assert listed == {"object": "list", "data": [one]}
    assert one["memory"]["resident_bytes"] == 1 << 28
    assert one["use"]["tokens_per_s"] == 100
    assert one["facts"]["kv_layout"] == "partitioned"
    assert (one["file"]["known_by"], one["file"]["quantisation"]) == ("header", "Q4_1")
    assert (await http.get(f"{BASE}/nothing")).status_code == 404


async def test_a_model_with_an_adapter_is_told_of_itself(house: House, http: httpx.AsyncClient) -> None:
    poet = f"{MODEL}:poet"
    house.registry.known[poet] = msgspec.structs.replace(card(poet), parent=MODEL, adapter="poet")
    told = (await http.get(f"{BASE}/{poet}")).json()
    assert (told["id"], told["parent"], told["adapter"]) == (poet, MODEL, "poet")
    assert "state" not in told
    http.headers.update(restricted(house, poet))
    assert (await http.get(f"{BASE}/{poet}")).json() == told
    assert (await http.get(f"{BASE}/{MODEL}")).status_code == 404
    schema = document_of(house.app)["paths"][f"{BASE}/{{model_id}}"]["get"]["responses"]["200"]
    jsonschema.validate(told, schema["content"]["application/json"]["schema"])


async def test_words_are_changed_and_nulls_leave_them(house: House, http: httpx.AsyncClient) -> None:
    path = f"{BASE}/{MODEL}"
    body = {"aliases": ["gpt-4o"], "tags": ["a"], "notes": "x", "settings": {"context": 64, "pin": True}}
    told = (await http.patch(path, json=body)).json()
    assert (told["aliases"], told["tags"], told["notes"]) == (["gpt-4o"], ["a"], "x")
    assert told["settings"] == {"context": 64, "pin": True}
    await http.patch(path, json={"aliases": None, "settings": {"context": None, "parallel": 2}})
    amendment = house.registry.amendments[MODEL]
    assert (amendment.aliases, amendment.notes) == (None, None)
    assert amendment.settings == ModelSettings(parallel=2, pin=True)
    assert (await http.patch(f"{BASE}/nothing", json={})).status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"settings": {"context": 1}}, "settings"),
        ({"settings": {"contxt": 64}}, "settings"),
        ({"settings": {"temperature": 2.5}}, "settings"),
        ({"settings": {"seed": 1}}, "settings"),
        ({"settings": {"kv_budget": 10**400}}, "settings"),
        ({"settings": {"chat_template": "/etc/passwd"}}, "settings"),
        ({"settings": {"chat_template": "chatml.jinja"}}, "settings"),
        ({"settings": []}, "settings"),
        ({"aliases": ["two words"]}, "aliases[0]"),
        ({"aliases": ["new\n"]}, "aliases[0]"),
        ({"aliases": ["x"] * 65}, "aliases"),
        ({"tags": [""]}, "tags[0]"),
        ({"notes": "x" * 10_001}, "notes"),
        ({"name": "x"}, "name"),
    ],
)
async def test_wrong_words_are_refused_by_name(
    house: House, http: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    told = await http.patch(f"{BASE}/{MODEL}", json=body)
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
    assert not house.registry.amendments


async def test_a_family_of_templates_may_be_set(house: House, http: httpx.AsyncClient) -> None:
    told = await http.patch(f"{BASE}/{MODEL}", json={"settings": {"chat_template": "chatml"}})
    assert told.json()["settings"] == {"chat_template": "chatml"}


async def test_unknown_fields_are_refused_however_lenient_the_server_is() -> None:
    house = House(policy=RequestPolicy(strict=False))
    for path, body in ADMIN_BODIES.items():
        told = await house.post(path, body | {"nibbles": 1})
        assert (told.status_code, told.json()["error"]["param"]) == (400, "nibbles")


async def test_a_key_for_certain_models_administers_those_alone(
    house: House, http: httpx.AsyncClient
) -> None:
    house.registry.known["other"] = card("other")
    theirs = (await http.post(f"{BASE}/verify", json={"model": "other"})).json()["id"]
    http.headers.update(restricted(house, MODEL))
    assert [each["id"] for each in (await http.get(BASE)).json()["data"]] == [MODEL]
    assert (await http.post(f"{BASE}/unload", json={"model": MODEL})).status_code == 200
    for method, path, body in (
        ("GET", f"{BASE}/other", None),
        ("PATCH", f"{BASE}/other", {"notes": "x"}),
        ("POST", f"{BASE}/load", {"model": "other"}),
        ("POST", f"{BASE}/unload", {"model": "other"}),
        ("POST", f"{BASE}/verify", {"model": "other"}),
        ("GET", f"/admin/v1/jobs/{theirs}", None),
        ("DELETE", f"/admin/v1/jobs/{theirs}", None),
        ("GET", f"/admin/v1/jobs/{theirs}/events", None),
    ):
        assert (await http.request(method, path, json=body)).status_code == 404, (method, path)
    for what in ("pull", "import", "quantize"):
        told = await http.post(f"{BASE}/{what}", json=ADMIN_BODIES[f"{BASE}/{what}"])
        assert (told.status_code, told.json()["error"]["code"]) == (403, "not_permitted")
    told = await http.post(f"{BASE}/tune", json={"model": MODEL, "apply": "Q4_0"})
    assert (told.status_code, told.json()["error"]["code"]) == (403, "not_permitted"), "its twin would be new"
    assert (await http.post(f"{BASE}/tune", json={"model": "other"})).status_code == 404
    for told in (
        await http.get("/admin/v1/found"),
        await http.get("/admin/v1/prune"),
        await http.post("/admin/v1/prune", json={"yes": True}),
    ):
        assert (told.status_code, told.json()["error"]["code"]) == (403, "not_permitted")
    assert house.pruning.left
    mine = (await http.post(f"{BASE}/verify", json={"model": MODEL})).json()["id"]
    assert [each["id"] for each in (await http.get("/admin/v1/jobs")).json()["data"]] == [mine]
    assert not house.registry.amendments


@pytest.mark.parametrize("path", ADMIN_BODIES)
async def test_a_policy_that_a_reload_brings_counts_for_the_admin_too(
    house: House, http: httpx.AsyncClient, path: str
) -> None:
    house.services.policy = RequestPolicy(strict=False, max_body_bytes=8)
    assert (await http.post(path, json=ADMIN_BODIES[path])).status_code == 413
    house.services.policy = RequestPolicy(strict=False)
    strange = await http.post(path, json={**ADMIN_BODIES[path], "strange": 1})
    assert strange.status_code == 400, "an admin's words are never ignored"


async def test_a_deletion_tells_what_else_has_changed_and_a_restricted_key_its_own_models_alone(
    house: House, http: httpx.AsyncClient
) -> None:
    house.registry.side_effects = (SideEffect("mine", "of mine"), SideEffect("other", "of another"))
    house.registry.known["mine"] = card("mine")
    assert (await http.delete(f"/v1/models/{MODEL}")).json()["notes"] == ["of mine", "of another"]
    told = await http.delete("/v1/models/mine", headers=restricted(house, "mine"))
    assert told.json() == {"id": "mine", "object": "model", "deleted": True, "notes": ["of mine"]}
