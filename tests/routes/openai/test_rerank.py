from __future__ import annotations

import pytest

from engine.embedding import PairPrompt
from tests.fakes.house import PLAIN_BODIES, RERANK_PATH, House
from tests.fakes.registry import MODEL

BODY = PLAIN_BODIES[RERANK_PATH] | {"documents": ["xyz", "abc", {"text": "abz"}, "cab"]}


async def test_documents_come_sorted_with_their_index() -> None:
    house = House()
    reply = (await house.post(RERANK_PATH, BODY)).json()
    assert [item["index"] for item in reply["results"]] == [1, 3, 2, 0], "the first of two equals is first"
    scores = [item["relevance_score"] for item in reply["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all("document" not in item for item in reply["results"])
    assert (reply["object"], reply["model"]) == ("list", MODEL)
    assert reply["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
    (asked,) = house.engine.embedded
    assert asked.inputs[2] == PairPrompt("abc", "abz")
    assert (asked.param, asked.is_list) == ("documents", True)
    assert house.telemetry.last.operation == "rerank"


@pytest.mark.parametrize(("top_n", "indices"), [(1, [1]), (2, [1, 3]), (100, [1, 3, 2, 0])])
async def test_the_best_few_with_their_texts(top_n: int, indices: list[int]) -> None:
    reply = (await House().post(RERANK_PATH, BODY | {"top_n": top_n, "return_documents": True})).json()
    assert [item["index"] for item in reply["results"]] == indices
    assert reply["results"][0]["document"] == {"text": "abc"}
