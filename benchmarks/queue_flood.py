"""A thousand requests at once: does each get its own answer, and does the server still say that it lives?"""

from __future__ import annotations

import asyncio
import statistics
import time

from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.stream_client import StreamClient

_REQUESTS = 1000
_ANSWER_TOKENS = 4
_GOAL_MS = 200


def measure_queue_flood(served: ServedModel) -> Result:
    """Answers that came, and the 99th percentile of ``/health`` while they were waited for."""
    answered, health_ms = asyncio.run(_flood(StreamClient(served.url, served.model)))
    p99_ms = statistics.quantiles(health_ms, n=100)[98]
    return Result(
        "1,000 requests queued",
        f"{answered} answered in full, /health 99th percentile {p99_ms:.0f} ms",
        f"1000, under {_GOAL_MS} ms",
        answered == _REQUESTS and p99_ms < _GOAL_MS,
        f"{len(health_ms)} health checks, the slowest {max(health_ms):.0f} ms",
        score=min(answered / _REQUESTS, _GOAL_MS / p99_ms),
    )


async def _flood(client: StreamClient) -> tuple[int, list[float]]:
    async def one(number: int) -> bool:
        answer = await client.complete([300 + number, 7, 8, 9], answer_tokens=_ANSWER_TOKENS)
        return answer.tokens == _ANSWER_TOKENS

    work = asyncio.gather(*(one(number) for number in range(_REQUESTS)))
    health_ms = []
    while not work.done():
        begin_s = time.perf_counter()
        await client.get("/health")
        health_ms.append((time.perf_counter() - begin_s) * 1e3)
        await asyncio.sleep(0.02)
    return sum(await work), health_ms
