"""What is asked of the bare library and of the server alike: so many clients, so many tokens in and out."""

from __future__ import annotations

import random
from dataclasses import dataclass

_FIRST_PLAIN_TOKEN = 100
_LAST_PLAIN_TOKEN = 40_000


@dataclass(frozen=True, slots=True)
class Workload:
    """``clients`` each send one request after another, each of ``prompt_tokens``, for ``answer_tokens`` back."""

    clients: int
    requests_per_client: int
    prompt_tokens: int = 96
    answer_tokens: int = 64
    head_tokens: int = 0
    """How many of ``prompt_tokens``, from the start, are the same in every request of a round."""

    @property
    def tokens(self) -> int:
        """Tokens generated in one round."""
        return self.clients * self.requests_per_client * self.answer_tokens

    def prompts(self, seed: int) -> list[list[list[int]]]:
        """Random token ids: [client][request][token]; no two rounds share a prefix, requests at most the head."""
        random_ids = random.Random(seed)

        def some(count: int) -> list[int]:
            return [random_ids.randrange(_FIRST_PLAIN_TOKEN, _LAST_PLAIN_TOKEN) for _ in range(count)]

        head, rest = some(self.head_tokens), self.prompt_tokens - self.head_tokens
        return [[head + some(rest) for _ in range(self.requests_per_client)] for _ in range(self.clients)]
