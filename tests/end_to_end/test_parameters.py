"""Every parameter has an effect that can be seen: none is accepted and ignored.

Token ids are those of the bundled model, whose file is pinned by its hash. The prompts are shorter than what
the prefix cache shares, so each is computed in one way alone, and equal requests bring equal logits.
"""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types import Completion

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model

VIOLET, END_OF_TURN = 33871, 2
COUNTING = "1, 2, 3, 4, 5,"


def complete(client: openai.OpenAI, prompt: str = COUNTING, **fields: Any) -> Completion:
    """A completion; greedy and of 12 tokens where ``fields`` does not say otherwise."""
    ours = {
        name: fields.pop(name)
        for name in ("top_k", "min_p", "repeat_penalty", "ignore_eos", "min_tokens")
        if name in fields
    }
    fields = {"temperature": 0, "max_tokens": 12, **fields}
    answer: Completion = client.completions.create(model=MODEL, prompt=prompt, extra_body=ours, **fields)
    return answer


def text(client: openai.OpenAI, prompt: str = COUNTING, **fields: Any) -> str:
    return complete(client, prompt, **fields).choices[0].text


def completion_tokens(answer: Completion) -> int:
    assert answer.usage is not None
    return answer.usage.completion_tokens


def test_temperature_zero_takes_the_likeliest(client: openai.OpenAI) -> None:
    assert text(client) == text(client) == " 6, 7, 8, 9,"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_max_tokens_is_the_number_of_tokens(client: openai.OpenAI, count: int) -> None:
    answer = complete(client, max_tokens=count)
    assert completion_tokens(answer) == count
    assert answer.choices[0].finish_reason == "length"


def test_legacy_completions_end_after_sixteen_tokens(server: LiveServer) -> None:
    answer = server.post("/v1/completions", {"prompt": COUNTING, "ignore_eos": True}).json()
    assert answer["usage"]["completion_tokens"] == 16


def test_max_completion_tokens_limits_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Count to ten."}],
        max_completion_tokens=3,
        temperature=0,
    )
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")


def test_a_seed_reproduces(client: openai.OpenAI) -> None:
    def drawn(seed: int | None) -> str:
        return text(client, "Once", temperature=1.0, seed=seed)

    assert drawn(7) == drawn(7)
    assert len({drawn(7), drawn(8), drawn(9)}) == 3
    assert drawn(None) != drawn(None)


def test_temperature_widens_the_choice(client: openai.OpenAI) -> None:
    """In counting the next token is nearly certain; a high temperature makes it anything at all."""
    assert text(client, temperature=0.01, seed=1) == text(client)
    assert text(client, temperature=2.0, seed=1) != text(client)


@pytest.mark.parametrize(
    "filter_to_one", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}], ids=lambda fields: next(iter(fields))
)
def test_a_filter_that_leaves_one_token_is_greedy(
    client: openai.OpenAI, filter_to_one: dict[str, Any]
) -> None:
    wild: dict[str, Any] = {"temperature": 2.0, "seed": 3}
    assert text(client, **wild, **filter_to_one) == text(client)
    assert text(client, **wild) != text(client)


def test_a_bias_forces_a_token(client: openai.OpenAI) -> None:
    assert text(client, max_tokens=3, logit_bias={str(VIOLET): 100}) == " violet violet violet"


def test_a_bias_bans_a_token(client: openai.OpenAI) -> None:
    prompt = "violet violet violet violet violet"
    assert " violet" in text(client, prompt)
    assert " violet" not in text(client, prompt, logit_bias={str(VIOLET): -100})


def test_a_bias_of_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=2,
        logit_bias={str(VIOLET): 100},
    )
    assert answer.choices[0].message.content == " violet violet"


@pytest.mark.parametrize(
    "penalty",
    [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"repeat_penalty": 2.0}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_penalty_changes_what_repeats(client: openai.OpenAI, penalty: dict[str, Any]) -> None:
    """A word that the prompt repeats is repeated, until its repetition is punished."""
    prompt = "violet violet violet violet violet"
    plain = text(client, prompt, max_tokens=16)
    punished = text(client, prompt, max_tokens=16, **penalty)
    assert punished.count(" violet") < plain.count(" violet")


@pytest.mark.parametrize("stop", [" 8", [" 8"], ["none such", "8,", "nor this"]], ids=repr)
def test_a_stop_string_cuts_and_is_not_sent(client: openai.OpenAI, stop: str | list[str]) -> None:
    choice = complete(client, stop=stop).choices[0]
    assert choice.text.rstrip() == " 6, 7,"
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("stop", [" 8", ", 8", "7, 8, 9"])
def test_no_chunk_holds_any_part_of_a_stop_string(server: LiveServer, stop: str) -> None:
    """Also of one that spans tokens, whose first half came in an earlier step than its second."""
    body = {"prompt": COUNTING, "max_tokens": 12, "stop": stop, "stream": True}
    sent = server.post("/v1/completions", body).text
    assert "8" not in sent.replace('"id":', "").split('"text":"', 1)[1].split('"', 1)[0]
    whole = server.post("/v1/completions", {**body, "stream": False}).json()["choices"][0]
    streamed = "".join(part.split('"', 1)[0] for part in sent.split('"text":"')[1:])
    assert streamed == whole["text"] == " 6, 7, 8"[: " 6, 7, 8, 9".index(stop)]


def test_a_stop_string_that_does_not_come_true_is_sent(client: openai.OpenAI) -> None:
    """Text held back because it could become a stop string is not lost when it does not."""
    assert text(client, stop=[" 6, 7, 8, 9, 11", ", never"]) == text(client)


def test_n_answers_with_their_indexes(client: openai.OpenAI) -> None:
    answer = complete(client, "Once", n=3, temperature=1.0, seed=1, max_tokens=6)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.text for choice in answer.choices}) == 3
    assert completion_tokens(answer) <= 18
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 1, "the prompt counts once"


def test_n_answers_streamed(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi"}],
        n=3,
        max_tokens=4,
        seed=1,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    roles: list[int] = []
    ends: list[int] = []
    ids: set[str] = set()
    for chunk in stream:
        ids.add(chunk.id)
        for choice in chunk.choices:
            if choice.delta.role:
                roles.append(choice.index)
            if choice.finish_reason:
                assert choice.finish_reason == "length"
                ends.append(choice.index)
    assert sorted(roles) == sorted(ends) == [0, 1, 2]
    assert len(ids) == 1


def test_the_end_token_ends_and_ignore_eos_ignores_it(client: openai.OpenAI) -> None:
    """The bias makes the model want to end at once."""
    eager: dict[str, Any] = {"logit_bias": {str(END_OF_TURN): 100}, "max_tokens": 5}
    ended = complete(client, **eager)
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("", "stop")
    assert completion_tokens(ended) == 1, "the end token is one"
    ignored = complete(client, **eager, ignore_eos=True)
    assert (completion_tokens(ignored), ignored.choices[0].finish_reason) == (5, "length")
    assert "<|" not in ignored.choices[0].text


def test_min_tokens_puts_the_end_off(client: openai.OpenAI) -> None:
    answer = complete(client, logit_bias={str(END_OF_TURN): 100}, max_tokens=9, min_tokens=4)
    assert completion_tokens(answer) == 5, "four, and the end token"
    assert answer.choices[0].finish_reason == "stop"


def test_min_tokens_puts_stop_strings_off(client: openai.OpenAI) -> None:
    assert text(client, stop=",") == " 6"
    assert text(client, stop=",", min_tokens=5).startswith(" 6, 7")


def test_labels_are_taken(client: openai.OpenAI) -> None:
    """They change nothing by definition, and so are the only fields without an effect."""
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=1,
        temperature=0,
        user="someone",
        metadata={"purpose": "a test"},
        safety_identifier="someone",
        store=False,
    )
    assert answer.choices[0].finish_reason == "length"


def test_a_prediction_spares_work_and_changes_no_word(client: openai.OpenAI) -> None:
    def count_to_ten(**fields: Any) -> tuple[str | None, int]:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count from 1 to 10, separated by commas."}],
            max_tokens=20,
            temperature=0,
            **fields,
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens_details is not None
        return (
            answer.choices[0].message.content,
            answer.usage.completion_tokens_details.accepted_prediction_tokens or 0,
        )

    plain, accepted = count_to_ten()
    assert accepted == 0
    # Guesses are checked where that pays by what steps took of late: a busy machine may say no, yet for a hundred
    # steps at most, and this is twice as many.
    for _ in range(10):
        predicted, accepted = count_to_ten(
            prediction={"type": "content", "content": "1, 2, 3, 4, 5, 6, 7, 8"}
        )
        assert predicted == plain
        if accepted:
            break
    assert accepted > 0


def test_timings_are_told_where_they_are_asked_for(server: LiveServer) -> None:
    body = {"prompt": COUNTING, "max_tokens": 2}
    without = server.post("/v1/completions", body).json()["choices"][0]
    asked = server.post("/v1/completions", {**body, "timings": True}).json()["choices"][0]
    assert "timings" not in without
    assert asked["timings"]["decode_ms"] > 0
    assert asked["text"] == without["text"]
