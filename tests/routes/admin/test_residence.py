"""Loading and unloading by request."""

from __future__ import annotations

import httpx
import pytest

from engine.errors import InsufficientMemory, ModelBusy, ModelLoadTimeout
from tests.fakes.house import House
from tests.fakes.registry import MODEL
from tests.routes.admin.administrator import BASE


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
