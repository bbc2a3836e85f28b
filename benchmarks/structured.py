"""Answers under a JSON schema, eight clients, beside free text of the same server."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.result import Result
from benchmarks.served import ServedModel, tokens_per_second
from benchmarks.stream_client import StreamClient, StreamTimes

_CLIENTS = 8
_REQUESTS = 3
_ANSWER_TOKENS = 96
_QUESTION = "Number {}: describe one weather station on a mountain of your choice."


def _schema(keys: list[str]) -> dict[str, object]:
    """An object of free strings under ``keys``, all required."""
    text = {"type": "string", "minLength": 12, "maxLength": 60}
    return {
        "type": "object",
        "properties": dict.fromkeys(keys, text),
        "required": keys,
        "additionalProperties": False,
    }


_SHORT = _schema(["name", "place", "view", "staff"])
_LONG = _schema(
    [f"the_{part}_of_the_weather_station_as_it_was_last_seen" for part in ("name", "place", "view", "staff")]
)


def measure_structured(served: ServedModel, *, rounds: int) -> list[Result]:
    """Rates of tokens a second as ratios to free text, short keys and long ones; rounds take turns."""
    short, long = [], []
    for seed in range(rounds):
        free = _rate(served, seed, {"ignore_eos": True})
        short.append(_rate(served, seed, {"json_schema": _SHORT}) / free)
        long.append(_rate(served, seed, {"json_schema": _LONG}) / free)
    return [
        _result("JSON schema output, 8 clients", statistics.median(short), 1.0),
        _result("JSON schema output with long fixed keys, 8 clients", statistics.median(long), 1.5),
    ]


def _result(workload: str, ratio: float, goal: float) -> Result:
    told = f"{ratio:.2f} of the free-text rate"
    return Result(workload, told, f"at least {goal:.2f}", ratio >= goal, score=ratio / goal)


def _rate(served: ServedModel, seed: int, fields: dict[str, object]) -> float:
    client = StreamClient(served.url, served.model)

    async def one(number: int) -> list[StreamTimes]:
        return [
            await client.chat(
                [{"role": "user", "content": _QUESTION.format(f"{seed}-{number}-{turn}")}],
                answer_tokens=_ANSWER_TOKENS,
                **fields,
            )
            for turn in range(_REQUESTS)
        ]

    async def all_of_them() -> list[StreamTimes]:
        return [times for each in await asyncio.gather(*map(one, range(_CLIENTS))) for times in each]

    return tokens_per_second(asyncio.run(all_of_them()))
