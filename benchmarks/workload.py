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

    @property
    def tokens(self) -> int:
        """Tokens generated in one round."""
        return self.clients * self.requests_per_client * self.answer_tokens

    def prompts(self, seed: int) -> list[list[list[int]]]:
        """Random token ids, unique per request: [client][request][token]. No two rounds share a prefix."""
        random_ids = random.Random(seed)

        def prompt() -> list[int]:
            return [
                random_ids.randrange(_FIRST_PLAIN_TOKEN, _LAST_PLAIN_TOKEN) for _ in range(self.prompt_tokens)
            ]

        return [[prompt() for _ in range(self.requests_per_client)] for _ in range(self.clients)]
