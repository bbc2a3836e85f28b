"""Many clients at a time: all are answered, each with its own words.

On equal logits (measured in ``tests/engine/native/test_context.py``): decoding in company is bit for bit what it
is alone, but a prompt read in other chunks, because others were read beside it or because the cache spared a part
of it, has logits that differ a little. So greedy answers are equal alone and in company where the likeliest token
leads by more than that, as in the prompts below, and are not promised to be where two tokens nearly tie.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import openai
import pytest

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.patience import eventually

pytestmark = pytest.mark.model

CANARIES = (
    *("falcon", "violet", "anchor", "copper", "saddle", "walnut", "glacier", "magnet"),
    *("pepper", "lantern", "meadow", "trumpet", "velvet", "canyon", "harbor", "biscuit"),
)


def echo_prompt(word: str) -> str:
    return f"Again: {word}. Again: {word}. Again: {word}. Again: {word}. Again:"


@dataclass(frozen=True)
class Told:
    """What one stream brought, and when its text began and ended, in counts of chunks over all streams."""

    text: str
    reason: str | None
    began: int
    ended: int


class Choir:
    """Streams side by side. Owned by the event loop of the test."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        # The client's type for a chunk of completions knows no null reason: so not strict.
        self._client = client.with_options()
        self._client._strict_response_validation = False
        self._chunks = 0

    async def sing(self, prompt: str, tokens: int) -> Told:
        stream = await self._client.completions.create(
            model=MODEL, prompt=prompt, max_tokens=tokens, temperature=0, stream=True
        )
        text, reason, began = "", None, -1
        async for chunk in stream:
            self._chunks += 1
            began = self._chunks if began < 0 else began
            text += chunk.choices[0].text
            reason = chunk.choices[0].finish_reason or reason
        return Told(text, reason, began, self._chunks)


async def test_sixteen_streams_are_complete_and_none_is_mixed(async_client: openai.AsyncOpenAI) -> None:
    choir = Choir(async_client)
    alone = await choir.sing(echo_prompt(CANARIES[0]), 6)
    told = await asyncio.gather(*(choir.sing(echo_prompt(word), 6) for word in CANARIES))
    for word, answer in zip(CANARIES, told, strict=True):
        assert answer.reason == "length"
        assert answer.text.startswith(f" {word}"), answer.text
        assert not [other for other in CANARIES if other != word and other in answer.text]
    assert told[0].text == alone.text, "in company as alone"


async def test_streams_run_side_by_side(async_client: openai.AsyncOpenAI) -> None:
    """Every stream has begun before any has ended: nobody waits for another's answer."""
    choir = Choir(async_client)
    told = await asyncio.gather(*(choir.sing(f"{start}, {start + 1},", 40) for start in (1, 20, 40, 60)))
    assert max(answer.began for answer in told) < min(answer.ended for answer in told)


async def test_shared_heads_do_not_mix_what_follows_them(async_client: openai.AsyncOpenAI) -> None:
    """The cache copies the common part; what comes behind it stays each request's own."""
    head = "The following lines repeat one word each, over and over, without any change. " * 3
    choir = Choir(async_client)
    told = await asyncio.gather(*(choir.sing(head + echo_prompt(word), 4) for word in CANARIES[:6]))
    for word, answer in zip(CANARIES, told, strict=False):
        assert answer.text.startswith(f" {word}"[: len(answer.text)])


async def test_fifty_overlapping_mixed_requests_all_get_their_answer(
    server: LiveServer, async_client: openai.AsyncOpenAI
) -> None:
    """Chat and text, streamed and whole, sound and unsound, and some that leave: each ends as it should."""
    client = async_client

    async def whole_chat(number: int) -> bool:
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"Say {number}."}], max_tokens=3
        )
        return answer.choices[0].finish_reason in ("length", "stop")

    async def streamed_chat(number: int) -> bool:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"Say {number}."}], max_tokens=3, stream=True
        )
        return [chunk.choices[0].finish_reason async for chunk in stream][-1] in ("length", "stop")

    async def several_texts(number: int) -> bool:
        answer = await client.completions.create(
            model=MODEL, prompt=[f"{number},", "1, 2,"], n=2, max_tokens=2
        )
        return [choice.index for choice in answer.choices] == [0, 1, 2, 3]

    async def refused(number: int) -> bool:
        with pytest.raises(openai.BadRequestError):
            await client.completions.create(model=MODEL, prompt="1", temperature=3 + number)
        return True

    async def leaves(number: int) -> bool:
        async with await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"Count to {number}."}], stream=True
        ) as stream:
            async for _ in stream:
                return True
        return False

    kinds = (whole_chat, streamed_chat, several_texts, refused, leaves)
    assert all(await asyncio.gather(*(kinds[number % 5](number) for number in range(50))))
    eventually(server.figures, lambda seen: seen.running == seen.waiting == 0, "all places are free")
