"""Four running streams, and a long prompt arrives: how long do they stand still?"""

from __future__ import annotations

import asyncio
import random
import statistics

from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.stream_client import StreamClient, StreamTimes

_STREAMS = 4
_WORDS = 1500
_GOAL_MS = 250


def long_prompt(seed: int, words: int = _WORDS) -> str:
    """Words that no other prompt begins with."""
    rng = random.Random(seed)
    return " ".join(
        rng.choice(("river", "stone", "light", "winter", "house", "green", "song")) for _ in range(words)
    )


def measure_gap(served: ServedModel, *, rounds: int) -> Result:
    """The longest wait between two pieces of any of the four, in the median round."""
    gaps_ms = [_longest_gap_s(served, seed) * 1e3 for seed in range(rounds)]
    gap_ms = statistics.median(gaps_ms)
    return Result(
        "longest gap in 4 running streams while a 1500-word prompt is read",
        f"{gap_ms:.0f} ms",
        f"under {_GOAL_MS} ms",
        gap_ms < _GOAL_MS,
        "rounds: " + ", ".join(f"{gap:.0f}" for gap in gaps_ms) + " ms",
        score=_GOAL_MS / gap_ms,
    )


def _longest_gap_s(served: ServedModel, seed: int) -> float:
    client = StreamClient(served.url, served.model)

    async def run() -> list[StreamTimes]:
        streams = [
            asyncio.create_task(client.complete(f"{seed} {n} Once upon a time", answer_tokens=200))
            for n in range(_STREAMS)
        ]
        # Let them run before the long one comes: it must find them decoding.
        await asyncio.sleep(1.0)
        await client.complete(long_prompt(seed), answer_tokens=1)
        return list(await asyncio.gather(*streams))

    return max(stream.longest_gap_s for stream in asyncio.run(run()))
