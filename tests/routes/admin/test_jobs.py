"""What is ordered as a job arrives as it was asked for, and is told while it runs."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from engine.errors import QueueFull
from model_registry.jobs.job_order import (
    CachedImportOrder,
    ImportOrder,
    PullOrder,
    QuantizeOrder,
    TuneOrder,
    VerifyOrder,
)
from tests.fakes.house import House
from tests.fakes.registry import MODEL
from tests.routes.admin.administrator import BASE

QUANTIZED = QuantizeOrder(model=MODEL, to="Q4_K_M", name="small", allow_requantize=True)


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
    await house.jobs.first_watcher.wait()
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
