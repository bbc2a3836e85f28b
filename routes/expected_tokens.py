"""What a request may cost, guessed before a tokenizer has seen it."""

from __future__ import annotations

from generation.request import GenerationRequest

_BYTES_PER_TOKEN = 4
"""Of English text; a guess that is settled when the request ends."""


def expected_tokens(body_bytes: int, asked: object) -> int:
    """Tokens of the prompts, from the size of the body, and the most that the answers may have, where that is said."""
    prompt = body_bytes // _BYTES_PER_TOKEN
    if isinstance(asked, GenerationRequest):
        return prompt + asked.choices * (asked.max_tokens or 0)
    return prompt
