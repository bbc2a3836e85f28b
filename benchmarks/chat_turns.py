"""A chat of six turns, with a request for a title between them: does each turn read only what is new?"""

from __future__ import annotations

import asyncio

from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.stream_client import StreamClient

_TURNS = 6
_ANSWER_TOKENS = 40
_TEMPLATE_TOKENS = 24
"""What a template may put around one turn, and what a retokenised answer may differ by."""


def measure_chat_turns(served: ServedModel) -> Result:
    """Prompt tokens of each turn that were computed, beside the tokens that are new in it."""
    computed, new = asyncio.run(_talk(StreamClient(served.url, served.model)))
    surplus = max(c - n for c, n in zip(computed, new, strict=True))
    return Result(
        "a chat of 6 turns with a title request between turns",
        f"at most {surplus} tokens computed beyond what is new in a turn",
        f"at most {_TEMPLATE_TOKENS}",
        surplus <= _TEMPLATE_TOKENS,
        f"computed {computed}, new {new}",
        score=_TEMPLATE_TOKENS / max(surplus, 1),
    )


async def _talk(client: StreamClient) -> tuple[list[int], list[int]]:
    messages = [{"role": "system", "content": "You are a patient guide to the rivers of Europe. " * 12}]
    computed, new = [], []
    before = 0
    for turn in range(_TURNS):
        messages.append(
            {"role": "user", "content": f"Question {turn}: tell me one thing about river number {turn}."}
        )
        answer = await client.chat(messages, answer_tokens=_ANSWER_TOKENS)
        messages.append({"role": "assistant", "content": answer.text})
        computed.append(answer.prompt_tokens - answer.cached_tokens)
        # The answer before this turn was computed when it was generated.
        new.append(answer.prompt_tokens - before)
        before = answer.prompt_tokens + answer.tokens
        title = {"role": "user", "content": "Give this chat a title of three words."}
        await client.chat([*messages, title], answer_tokens=8)
    return computed, new
