"""Log-probabilities, echoed prompts and ranked answers over the wire, as clients and harnesses ask for them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, cast

import openai
import pytest

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.fakes.house import frames

pytestmark = pytest.mark.model

QUESTION: list[Any] = [{"role": "user", "content": "Count from one to five, with an emoji."}]
FRANCE = "The capital of France is"


def test_the_tokens_of_a_chat_make_its_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=30, seed=1, logprobs=True, top_logprobs=20
    )
    (choice,) = answer.choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    text = b"".join(bytes(token.bytes or ()) for token in tokens).decode("utf-8", "ignore")
    assert text == choice.message.content
    assert answer.usage is not None
    # The token that ends the answer is no part of it.
    assert answer.usage.completion_tokens - len(tokens) == (choice.finish_reason == "stop")
    for token in tokens:
        assert len(token.top_logprobs) == 20
        values = [top.logprob for top in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert 0 < sum(map(math.exp, values)) < 1.0001
        assert token.logprob <= values[0] <= 0
        named = {top.token: top.logprob for top in token.top_logprobs}
        assert named.get(token.token, token.logprob) == token.logprob


def test_a_streamed_chat_tells_the_same(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "max_completion_tokens": 30}
    asked |= {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    # Once before, so that both find the prompt in the cache.
    client.chat.completions.create(**asked)
    whole = client.chat.completions.create(**asked).choices[0]
    text = ""
    tokens: list[Any] = []
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        tokens += (choice.logprobs.content or []) if choice.logprobs else []
    assert whole.logprobs is not None
    assert text == whole.message.content
    assert tokens == whole.logprobs.content


def test_completions_have_their_own_shape(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=FRANCE, max_tokens=8, temperature=0, logprobs=5)
    (choice,) = answer.choices
    told = choice.logprobs
    assert told is not None
    assert told.tokens
    assert told.token_logprobs
    assert told.top_logprobs
    assert told.text_offset
    assert "".join(told.tokens) == choice.text
    assert told.text_offset[0] == 0
    assert [b - a for a, b in pairwise(told.text_offset)] == [len(token) for token in told.tokens[:-1]]
    for token, logprob, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert top[token] == logprob == max(top.values())


def test_a_stop_string_is_in_no_list(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "1, 2, 3, 4, 5,", "temperature": 0, "logprobs": 0}
    asked["stop"] = ", 8, 9"
    choice = client.completions.create(**asked).choices[0]
    assert choice.text == " 6, 7"
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or ()) == " 6, 7"


def likelihoods(server: LiveServer, prompt: object, **fields: object) -> list[dict[str, Any]]:
    """As evaluation harnesses ask: the prompt back, with nothing behind it, or one token."""
    body = {"prompt": prompt, "echo": True, "max_tokens": 0, "logprobs": 1, "temperature": 0, **fields}
    reply = server.post("/v1/completions", body)
    assert reply.status_code == 200, reply.text
    choices: list[dict[str, Any]] = sorted(reply.json()["choices"], key=lambda choice: int(choice["index"]))
    return choices


def test_many_prompts_are_scored_in_one_request(server: LiveServer) -> None:
    texts = [f"{FRANCE} {city}." for city in ("Paris", "Rome", "Paris, a city of light", "cheese")]
    choices = likelihoods(server, texts)
    assert [choice["text"] for choice in choices] == texts
    assert {choice["finish_reason"] for choice in choices} == {"length"}
    for choice, text in zip(choices, texts, strict=True):
        told = choice["logprobs"]
        assert "".join(told["tokens"]) == text
        assert told["token_logprobs"][0] is None
        assert told["top_logprobs"][0] is None
        assert all(value <= 0 for value in told["token_logprobs"][1:])
        for offset, token in zip(told["text_offset"], told["tokens"], strict=True):
            assert text[offset:].startswith(token)
    sums = [sum(choice["logprobs"]["token_logprobs"][1:]) for choice in choices]
    assert sums[0] > sums[1] > sums[3]


def test_a_harness_s_arithmetic_works(server: LiveServer) -> None:
    """What lm-evaluation-harness does: tokens of context and ending, one token more, and a slice of the lists."""
    tokenised = likelihoods(server, f"{FRANCE} Paris")[0]["logprobs"]
    context = len(likelihoods(server, FRANCE)[0]["logprobs"]["tokens"])
    (choice,) = likelihoods(server, f"{FRANCE} Paris", max_tokens=1)
    told = choice["logprobs"]
    assert len(told["tokens"]) == len(tokenised["tokens"]) + 1
    ending = told["token_logprobs"][context:-1]
    assert ending == tokenised["token_logprobs"][context:]
    is_greedy = all(
        value == max(top.values())
        for value, top in zip(ending, told["top_logprobs"][context:-1], strict=True)
    )
    assert is_greedy == ("Paris" in likelihoods(server, FRANCE, max_tokens=1)[0]["text"])


def test_tokens_are_scored_as_their_text_is(server: LiveServer) -> None:
    # Token ids of the bundled model, which puts no beginning token before a text.
    by_tokens, other = likelihoods(server, [[504, 3575, 282, 4649, 314], [504, 3575]])
    assert by_tokens["text"] == FRANCE
    (by_text,) = likelihoods(server, FRANCE)
    assert len(by_tokens["logprobs"]["tokens"]) == 5
    assert by_tokens["logprobs"] == by_text["logprobs"]
    assert other["text"] == "The capital"


def test_an_echo_without_log_probabilities_is_text_and_counted(server: LiveServer) -> None:
    body = {"prompt": FRANCE, "echo": True, "max_tokens": 4, "temperature": 0}
    reply = server.post("/v1/completions", body).json()
    assert reply["choices"][0]["text"].startswith(f"{FRANCE} ")
    assert reply["choices"][0]["logprobs"] is None
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (5, 4)


@pytest.mark.parametrize("scores", [{}, {"logprobs": 2}], ids=["text alone", "scored"])
def test_a_streamed_echo_is_the_whole_one(server: LiveServer, scores: dict[str, object]) -> None:
    asked = {"prompt": [FRANCE, "1, 2, 3,"], "echo": True, "max_tokens": 4, "temperature": 0, **scores}
    whole = server.post("/v1/completions", asked).json()["choices"]
    texts = ["", ""]
    tokens: list[list[str]] = [[], []]
    for chunk in frames(server.post("/v1/completions", asked | {"stream": True}).text):
        (choice,) = cast("list[dict[str, Any]]", chunk["choices"])
        texts[choice["index"]] += choice["text"]
        tokens[choice["index"]] += choice["logprobs"]["tokens"] if choice["logprobs"] else []
    assert texts == [choice["text"] for choice in whole]
    assert texts[0].startswith(f"{FRANCE} ")
    assert tokens == [choice["logprobs"]["tokens"] if scores else [] for choice in whole]


def test_a_scored_prompt_is_not_taken_from_the_cache(server: LiveServer) -> None:
    text = " ".join(f"Line {n} of a text that is asked for twice." for n in range(12))
    body = {"prompt": text, "echo": True, "max_tokens": 1, "logprobs": 0, "temperature": 0}
    first, second = (server.post("/v1/completions", body).json() for _ in range(2))
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["choices"] == first["choices"]


def test_the_best_of_several_are_the_likeliest(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": FRANCE, "max_tokens": 6, "seed": 3, "logprobs": 0}
    every = client.completions.create(**asked, n=6, temperature=1.3)
    best = client.completions.create(**asked, n=2, best_of=6, temperature=1.3)

    def mean(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs))

    assert [choice.index for choice in best.choices] == [0, 1]
    ranked = sorted(every.choices, key=mean, reverse=True)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.usage is not None
    assert every.usage is not None
    assert best.usage.completion_tokens == every.usage.completion_tokens
    assert best.usage.prompt_tokens == every.usage.prompt_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        # The bundled model's vocabulary has no tokens for it.
        ({"suffix": "behind the gap"}, "suffix"),
    ],
)
def test_what_cannot_be_is_refused_by_name(server: LiveServer, fields: dict[str, object], param: str) -> None:
    reply = server.post("/v1/completions", {"prompt": FRANCE, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("fields", [{"top_logprobs": 0}, {"top_logprobs": 21, "logprobs": True}])
def test_alternatives_of_a_chat_are_bounded(server: LiveServer, fields: dict[str, object]) -> None:
    reply = server.post("/v1/chat/completions", {"messages": QUESTION, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "top_logprobs")
