"""What nothing uses, over fakes."""

from __future__ import annotations

import httpx

from tests.fakes.house import House


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
