"""The helpers in llama.cpp's shapes, over the real front desk and a vocabulary of bytes."""

from __future__ import annotations

import pytest

from tests.fakes.facts import CONTEXT
from tests.fakes.house import House
from tests.fakes.registry import MODEL, card
from tests.fakes.vocabulary import BEGINNING, END


async def told(path: str, body: dict[str, object]) -> object:
    house = House()
    reply = await house.post(path, body)
    assert reply.status_code == 200, reply.text
    assert house.registry.leased == house.registry.released == 1
    assert not house.telemetry.observations, "what computes nothing makes no figures"
    return reply.json()


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, [*b"a", END]),
        ({"add_special": True}, [BEGINNING, *b"a", END]),
        ({"parse_special": False, "add_special": None}, [*b"a</s>"]),
        ({"parse_special": None}, [*b"a", END]),
        ({"model": MODEL}, [*b"a", END]),
    ],
)
async def test_tokenize(fields: dict[str, object], tokens: list[int]) -> None:
    assert await told("/tokenize", {"content": "a</s>", **fields}) == {"tokens": tokens}


async def test_tokenize_with_pieces() -> None:
    body: dict[str, object] = {"content": "aé</s>", "with_pieces": True}
    assert await told("/tokenize", body) == {
        "tokens": [
            {"id": 97, "piece": "a"},
            {"id": 0xC3, "piece": [0xC3]},
            {"id": 0xA9, "piece": [0xA9]},
            {"id": END, "piece": "</s>"},
        ]
    }


async def test_detokenize() -> None:
    assert await told("/detokenize", {"tokens": [97, 0xC3, 0xA9, END]}) == {"content": "aé</s>"}
    assert await told("/detokenize", {"tokens": []}) == {"content": ""}


async def test_apply_template() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert await told("/apply-template", {"messages": messages}) == {"prompt": "<system>Be brief.<user>Hi"}


@pytest.mark.parametrize("query", ["", f"?model={MODEL}"])
async def test_properties(query: str) -> None:
    async with House().client() as client:
        properties = (await client.get(f"/props{query}")).json()
    settings = properties.pop("default_generation_settings")
    assert settings["n_ctx"] == CONTEXT
    assert (settings["params"]["temperature"], settings["params"]["top_k"]) == (1.0, 0)
    assert properties == {
        "total_slots": 8,
        "model_alias": MODEL,
        "model_path": f"{MODEL}.gguf",
        "modalities": {"vision": False, "audio": False},
        "chat_template": "a template",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "build_info": "0.3.36",
    }


@pytest.mark.parametrize(
    ("query", "status", "param"), [("?model=x", 404, "model"), ("?modell=x", 400, "modell")]
)
async def test_properties_of_no_model(query: str, status: int, param: str) -> None:
    async with House().client() as client:
        reply = await client.get(f"/props{query}")
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


async def test_a_token_outside_the_vocabulary_is_named() -> None:
    reply = await House().post("/detokenize", {"tokens": [1, 260]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "tokens[1]")


async def test_without_a_name_the_only_one_or_the_only_loaded_one_is_meant() -> None:
    house = House()
    house.registry.known = {"other": card("other", is_loaded=False)}
    assert (await house.post("/tokenize", {"content": "a"})).status_code == 200
    house.registry.known[MODEL] = card()
    assert (await house.post("/tokenize", {"content": "a"})).status_code == 200
    house.registry.known["third"] = card("third")
    reply = await house.post("/tokenize", {"content": "a"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")
    assert "'third'" in reply.json()["error"]["message"]


async def test_a_template_that_knows_no_tools_is_shown_what_a_chat_would_tell_it() -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [tool]}
    prompt = (await House().post("/apply-template", body)).json()["prompt"]
    assert prompt.startswith("<system>You may call functions")
    assert '{"name": "look"' in prompt
    assert prompt.endswith("<user>Hi")
    reply = await House().post("/apply-template", body | {"tools": [tool, tool]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "tools[1].function.name")
