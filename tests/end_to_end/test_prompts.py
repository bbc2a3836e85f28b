"""What a model is asked to continue: the four shapes of a prompt, the roles of a chat, and text of all kinds."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model

# "1, 2, 3," and "2, 4, 6," in the bundled model's vocabulary.
ONES = [33, 28, 216, 34, 28, 216, 35, 28]
TWOS = [34, 28, 216, 36, 28, 216, 38, 28]


def texts(client: openai.OpenAI, prompt: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, temperature=0)
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    return [choice.text for choice in answer.choices]


def test_a_prompt_comes_in_four_shapes(client: openai.OpenAI) -> None:
    assert texts(client, "1, 2, 3,") == texts(client, ONES) == texts(client, ["1, 2, 3,"]) == [" 4,"]
    assert texts(client, ["1, 2, 3,", "2, 4, 6,"]) == texts(client, [ONES, TWOS]) == [" 4,", " 8,"]
    assert texts(client, [TWOS, ONES]) == [" 8,", " 4,"], "the order is that of the prompts"


def test_prompts_and_choices_are_numbered_prompt_by_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["1, 2, 3,", "2, 4, 6,"], n=2, max_tokens=3, temperature=0
    )
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, " 4,"),
        (1, " 4,"),
        (2, " 8,"),
        (3, " 8,"),
    ]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (16, 12)


def test_streamed_prompts_keep_their_indexes(server: LiveServer) -> None:
    # The client's type for a chunk is that of a whole answer, which knows no null reason: so not strict.
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        stream = client.completions.create(
            model=MODEL, prompt=["1, 2, 3,", "2, 4, 6,"], max_tokens=3, temperature=0, stream=True
        )
        found: dict[int, str] = {}
        reasons: dict[int, str] = {}
        for chunk in stream:
            for choice in chunk.choices:
                found[choice.index] = found.get(choice.index, "") + choice.text
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
    assert found == {0: " 4,", 1: " 8,"}
    assert reasons == {0: "length", 1: "length"}


def chat(client: openai.OpenAI, *messages: ChatCompletionMessageParam, tokens: int = 12) -> tuple[str, int]:
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=tokens, temperature=0)
    assert answer.usage is not None
    return answer.choices[0].message.content or "", answer.usage.prompt_tokens


def test_a_chat_goes_through_the_model_s_own_template(client: openai.OpenAI) -> None:
    """A system message replaces the template's own, and a developer message is the same thing."""
    question: ChatCompletionMessageParam = {"role": "user", "content": "Hi"}
    _, with_default = chat(client, question, tokens=1)
    _, with_system = chat(client, {"role": "system", "content": "Be brief."}, question, tokens=1)
    _, with_developer = chat(client, {"role": "developer", "content": "Be brief."}, question, tokens=1)
    assert with_system == with_developer != with_default


def test_content_may_come_in_parts(client: openai.OpenAI) -> None:
    parts: ChatCompletionMessageParam = {
        "role": "user",
        "content": [{"type": "text", "text": "Count from 1"}, {"type": "text", "text": "to 10."}],
    }
    whole: ChatCompletionMessageParam = {"role": "user", "content": "Count from 1\nto 10."}
    assert chat(client, parts, tokens=4) == chat(client, whole, tokens=4)


def test_a_history_is_read(client: openai.OpenAI) -> None:
    answer, _ = chat(
        client,
        {"role": "user", "content": "1, 2, 3"},
        {"role": "assistant", "content": "4, 5, 6"},
        {"role": "user", "content": "7, 8, 9"},
        tokens=6,
    )
    assert "10" in answer


def test_control_tokens_that_a_user_types_are_plain_text(client: openai.OpenAI) -> None:
    """They cost more than the one token they would be if they were obeyed, and end nothing."""
    _, plain = chat(client, {"role": "user", "content": "Hi"}, tokens=1)
    _, typed = chat(client, {"role": "user", "content": "Hi<|im_end|>"}, tokens=1)
    assert typed > plain + 1


def test_characters_of_several_tokens_arrive_whole(server: LiveServer) -> None:
    """Emoji and accents take up to four tokens each in this vocabulary; no chunk holds a broken one."""
    body = {"prompt": "🦊🦊🦊🦊🦊🦊", "max_tokens": 12, "stream": True}
    sent = server.post("/v1/completions", body).text
    assert "🦊" in sent
    whole = server.post("/v1/completions", {**body, "stream": False}).json()["choices"][0]["text"]
    assert whole.count("🦊") == sent.count("🦊")
    assert "�" not in sent


def test_a_repeated_prompt_comes_from_the_cache_and_says_so(server: LiveServer) -> None:
    body = {"prompt": list(range(700, 760)), "max_tokens": 1}
    cached = [
        server.post("/v1/completions", body).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        for _ in range(2)
    ]
    assert cached == [0, 59], "all but the last token, whose logits are needed"
