"""The admin's routes over fakes: what is asked for arrives, what comes back is told, and keys keep to their models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner

from engine.errors import InsufficientMemory, ModelBusy, ModelLoadTimeout, QueueFull
from model_registry.catalog.catalog import catalog
from model_registry.jobs.job_order import (
    CachedImportOrder,
    ImportOrder,
    PullOrder,
    QuantizeOrder,
    TuneOrder,
    VerifyOrder,
)
from model_registry.model_settings import ModelSettings
from model_registry.removal import SideEffect
from routes.request_policy import RequestPolicy
from server.cli import app
from tests.fakes.callers import FakeCaller
from tests.fakes.house import ADMIN_BODIES, House
from tests.fakes.registry import MODEL, card
from tests.fixtures.tiny_gguf import write_tiny
from tests.model_registry.caches import layouts

QUANTIZED = QuantizeOrder(model=MODEL, to="Q4_K_M", name="small", allow_requantize=True)
BASE = "/admin/v1/models"


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with house.client() as client:
        yield client


def restricted(house: House, *models: str) -> dict[str, str]:
    """Headers of an admin's key for certain models."""
    house.callers.keys["secret"] = FakeCaller("alice", models=frozenset(models))
    return {"authorization": "Bearer secret"}


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
    schema = house.app.openapi()["paths"][f"{BASE}/{{model_id}}"]["get"]["responses"]["200"]
    jsonschema.validate(told, schema["content"]["application/json"]["schema"])


async def test_the_catalogue_is_that_of_the_command(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/admin/v1/catalog")).json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == [*catalog()]
    told = json.loads(CliRunner().invoke(app, ["catalog", "--json"]).stdout)
    assert listed["data"] == told


async def test_what_others_have_fetched_is_listed_as_by_the_command(
    http: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    content = write_tiny(tmp_path / "tiny.bin").read_bytes()
    layouts.ollama(tmp_path / "ollama", "library/tiny/1b", content, layouts.TEMPLATE)
    layouts.huggingface(tmp_path / "hub", "owner/repo", {"mini-Q4_0.gguf": content})
    listed = (await http.get("/admin/v1/found")).json()
    assert [(each["from"], each["name"]) for each in listed["data"]] == [
        ("ollama", "tiny:1b"),
        ("huggingface", "owner/repo:mini-Q4_0"),
    ]
    assert listed["data"] == json.loads(CliRunner().invoke(app, ["import", "--found", "--json"]).stdout)
    of_one = (await http.get("/admin/v1/found?from=ollama")).json()
    assert of_one["data"] == listed["data"][:1]
    for query in ("from=gpt4all", "from=", "form=ollama"):
        told = await http.get(f"/admin/v1/found?{query}")
        assert (told.status_code, told.json()["error"]["param"]) == (400, query.partition("=")[0])


async def test_what_nothing_uses_is_shown_and_goes_on_the_word_alone(
    house: House, http: httpx.AsyncClient
) -> None:
    shown = (await http.get("/admin/v1/prune")).json()
    assert [each["kind"] for each in shown["data"]] == ["lock"]
    for body in ({}, {"yes": False}, {"yes": None}, {"yes": 1}, {"yes": "true"}):
        told = await http.post("/admin/v1/prune", json=body)
        assert (told.status_code, told.json()["error"]["param"]) == (400, "yes")
    assert (await http.post("/admin/v1/prune")).status_code == 415
    assert house.pruning.left
    pruned = (await http.post("/admin/v1/prune", json={"yes": True})).json()
    assert pruned["data"] == [each | {"removed": True, "problem": ""} for each in shown["data"]]
    assert (await http.get("/admin/v1/prune")).json() == {"object": "list", "data": []}


async def test_a_pull_may_be_forced(house: House, http: httpx.AsyncClient) -> None:
    for body in ({}, {"force": None}, {"force": False}, {"force": True}):
        assert (await http.post(f"{BASE}/pull", json={"source": "hf:a/b"} | body)).status_code == 202
    forced = [each.force for each in house.jobs.orders if isinstance(each, PullOrder)]
    assert forced == [False, False, False, True]
    told = await http.post(f"{BASE}/pull", json={"source": "hf:a/b", "force": "yes"})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "force")


async def test_a_model_of_another_program_is_imported_by_its_name(
    house: House, http: httpx.AsyncClient
) -> None:
    job = (await http.post(f"{BASE}/import", json={"from": "ollama", "name": "tiny:1b"})).json()
    assert (job["kind"], job["about"]) == ("import", "tiny:1b from ollama")
    assert house.jobs.orders == [CachedImportOrder("ollama", "tiny:1b")]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "path"),
        ({"for": MODEL}, "path"),
        ({"name": "tiny"}, "name"),
        ({"path": "/m/x.gguf", "name": "tiny"}, "name"),
        ({"from": "ollama"}, "name"),
        ({"from": "ollama", "name": ""}, "name"),
        ({"from": "gpt4all", "name": "tiny"}, "from"),
        ({"from_": "ollama", "name": "tiny"}, "from_"),
        ({"from": "ollama", "name": "tiny", "path": "/m/x.gguf"}, "path"),
        ({"from": "ollama", "name": "tiny", "for": MODEL}, "for"),
        ({"found": True}, "found"),
    ],
)
async def test_an_import_that_means_nothing_or_two_things_is_refused(
    house: House, http: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    told = await http.post(f"{BASE}/import", json=body)
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
    assert not house.jobs.orders


async def test_load_and_unload(house: House, http: httpx.AsyncClient) -> None:
    told = await http.post(f"{BASE}/unload", json={"model": MODEL, "wait_s": 5, "force": True})
    assert (told.status_code, told.json()["state"], told.json()["use"]) == (200, "unloaded", None)
    await http.post(f"{BASE}/unload", json={"model": MODEL, "wait_s": None, "force": None})
    assert house.registry.unloads == [(MODEL, 5.0, True), (MODEL, 0.0, False)]
    told = await http.post(f"{BASE}/load", json={"model": MODEL})
    assert (told.status_code, told.json()["state"]) == (200, "ready")


@pytest.mark.parametrize(
    ("path", "error", "status"),
    [
        ("unload", ModelBusy("3 requests hold it", param="model"), 409),
        ("load", InsufficientMemory("needs 9 MB and 8 MB are free"), 503),
        ("load", ModelLoadTimeout("did not load within 900 seconds"), 504),
    ],
)
async def test_refusals_keep_their_kind(
    house: House, http: httpx.AsyncClient, path: str, error: InsufficientMemory, status: int
) -> None:
    house.registry.load_error = error
    told = await http.post(f"{BASE}/{path}", json={"model": MODEL})
    assert (told.status_code, told.json()["error"]["code"]) == (status, error.kind)
    assert told.json()["error"]["message"] == error.message
    if status != 503:
        assert told.headers["x-should-retry"] == "false"


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


async def test_orders_become_jobs(house: House, http: httpx.AsyncClient) -> None:
    for what, body in (
        ("pull", {"source": "hf:a/b"}),
        ("import", {"path": "/m/x.gguf", "for": None}),
        ("verify", {"model": MODEL}),
        ("quantize", {"model": MODEL, "to": "q4_k_m", "name": "small", "allow_requantize": True}),
    ):
        told = await http.post(f"{BASE}/{what}", json=body)
        assert told.status_code == 202
        job = told.json()
        assert (job["object"], job["kind"], job["state"]) == ("job", what, "queued")
        assert told.headers["location"] == f"/admin/v1/jobs/{job['id']}"
        assert (await http.get(told.headers["location"])).json() == job
    assert house.jobs.orders == [PullOrder("hf:a/b"), ImportOrder("/m/x.gguf"), VerifyOrder(MODEL), QUANTIZED]
    assert len((await http.get("/admin/v1/jobs")).json()["data"]) == 4
    weighed = {"model": MODEL, "to": "iq1_s", "imatrix": "/m/imatrix.gguf"}
    assert (await http.post(f"{BASE}/quantize", json=weighed)).status_code == 202
    assert QuantizeOrder(model=MODEL, to="IQ1_S", imatrix="/m/imatrix.gguf") in house.jobs.orders
    for wrong in (
        {"to": "Q9"},
        {"to": "IQ1_S"},
        {"to": "Q4_0", "name": "../x"},
        {"to": "Q4_0", "imatrix": "imatrix.gguf"},
        {"to": "F16", "imatrix": "/m/imatrix.gguf"},
    ):
        told = await http.post(f"{BASE}/quantize", json={"model": MODEL} | wrong)
        assert (told.status_code, told.json()["error"]["param"]) == (400, [*wrong][-1])
    assert (await http.delete("/admin/v1/jobs/" + next(iter(house.jobs.made)))).json()["state"] == "cancelled"
    assert (await http.post(f"{BASE}/verify", json={"model": "nothing"})).status_code == 404
    assert (await http.post(f"{BASE}/import", json={"path": "x.gguf"})).status_code == 400
    adapter = {"path": "/m/poet.gguf", "for": MODEL}
    assert (await http.post(f"{BASE}/import", json=adapter)).status_code == 202
    assert house.jobs.orders[-1] == ImportOrder("/m/poet.gguf", MODEL)
    told = await http.post(f"{BASE}/import", json={"path": "/m/poet.gguf", "for_": MODEL})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "for_")
    house.jobs.refusal = QueueFull("32 jobs wait already", retry_after_s=30)
    full = await http.post(f"{BASE}/pull", json={"source": "hf:a/b"})
    assert (full.status_code, full.headers["retry-after"]) == (503, "30")


async def test_a_tuning_is_ordered_as_the_command_takes_it(house: House, http: httpx.AsyncClient) -> None:
    for body, order in (
        ({}, TuneOrder(model=MODEL)),
        ({"text": "\ufeffOnce", "types": ["q8_0", "IQ4_NL"]}, ("Once", ("Q8_0", "IQ4_NL"), None)),
        ({"apply": "q4_0", "types": None, "revert": False}, (None, (), "Q4_0")),
        ({"revert": True}, TuneOrder(model=MODEL, revert=True)),
    ):
        told = await http.post(f"{BASE}/tune", json={"model": MODEL} | body)
        assert (told.status_code, told.json()["kind"], told.json()["model"]) == (202, "tune", MODEL)
        if isinstance(order, tuple):
            text, types, apply = order
            order = TuneOrder(model=MODEL, text=text, types=types, apply=apply)
        assert house.jobs.orders[-1] == order


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"types": ["q9"]}, "types"),
        ({"types": ["q8_0", "iq1_s"]}, "types"),
        ({"types": []}, "types"),
        ({"types": "q8_0"}, "types"),
        ({"apply": "q9"}, "apply"),
        ({"text": ""}, "text"),
        ({"revert": True, "apply": "q8_0"}, "revert"),
        ({"revert": True, "text": "x"}, "revert"),
        ({"plot": "a.png"}, "plot"),
    ],
)
async def test_a_tuning_that_cannot_be_is_refused_at_once(
    house: House, http: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    told = await http.post(f"{BASE}/tune", json={"model": MODEL} | body)
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
    assert not house.jobs.orders


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("DELETE", "")])
async def test_a_job_that_is_not_there(http: httpx.AsyncClient, method: str, path: str) -> None:
    told = await http.request(method, f"/admin/v1/jobs/job-none{path}")
    assert (told.status_code, told.json()["error"]["code"]) == (404, "job_not_found")


async def test_a_stream_tells_the_job_and_each_change_until_it_is_over(
    house: House, http: httpx.AsyncClient
) -> None:
    job_id = (await http.post(f"{BASE}/pull", json={"source": "hf:a/b"})).json()["id"]
    job = house.jobs.made[job_id]
    # The transport hands over a stream when it has ended, so the job's life goes on beside it.
    following = asyncio.create_task(http.get(f"/admin/v1/jobs/{job_id}/events"))
    while not house.jobs.watchers:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    job.begin()
    for _ in range(20):
        await asyncio.sleep(0)
    job.note(5, 10)
    for _ in range(20):
        await asyncio.sleep(0)
    job.end("succeeded", "it works")
    answer = await following
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    told = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [(each["state"], each["done"]) for each in told] == [
        ("queued", 0),
        ("running", 0),
        ("running", 5),
        ("succeeded", 5),
    ]
    assert house.jobs.watchers == 0
    again = await http.get(f"/admin/v1/jobs/{job_id}/events")
    assert again.text.count("data: ") == 1, "of one that is over, its end"


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
