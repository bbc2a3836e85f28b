"""Text that repeats its prompt, with the client's prediction of it, beside text that does not repeat."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.stream_client import StreamClient, StreamTimes

Messages = list[dict[str, str]]

_CODE = '''def area(width, height):
    """The area of a rectangle."""
    return width * height


def perimeter(width, height):
    """The perimeter of a rectangle."""
    return 2 * (width + height)


def describe(width, height):
    """Both figures, as a sentence."""
    a = area(width, height)
    p = perimeter(width, height)
    return f"The area is {a} and the perimeter is {p}."
'''
_EDIT = f"Repeat this file exactly, with nothing before or after it:\n\n{_CODE}"
# A model this small repeats a file only once it has seen how that is done.
_REPEAT = [
    {"role": "user", "content": _EDIT},
    {"role": "assistant", "content": _CODE},
    {"role": "user", "content": _EDIT},
]
_STORY = "Write a long story about a lighthouse keeper who learns to paint. Use many different words."
_VARIED: dict[str, object] = {"temperature": 1.0}
"""The likeliest words of a model this small are soon the same ones, over and over."""
_ANSWER_TOKENS = 96


def measure_repetition(served: ServedModel, plain: ServedModel, *, rounds: int) -> list[Result]:
    """``plain`` is a server that does not guess ahead; both take turns."""
    prediction: dict[str, object] = {"prediction": {"type": "content", "content": _CODE}}
    edit = [_ratio(served, plain, _REPEAT, prediction) for _ in range(rounds)]
    story = [
        _ratio(served, plain, [{"role": "user", "content": f"{number} {_STORY}"}], _VARIED | {"seed": number})
        for number in range(rounds)
    ]
    gain, loss = statistics.median(edit), statistics.median(story)
    return [
        Result(
            "text that repeats its prompt, with a prediction, 1 client",
            f"{gain:.2f} of the plain rate",
            "at least 1.50",
            gain >= 1.5,
            score=gain / 1.5,
        ),
        Result(
            "text that does not repeat, 1 client",
            f"{loss:.2f} of the plain rate",
            "at least 0.97",
            loss >= 0.97,
            score=loss / 0.97,
        ),
    ]


def _ratio(served: ServedModel, plain: ServedModel, messages: Messages, fields: dict[str, object]) -> float:
    return _decode_rate(served, messages, fields) / _decode_rate(plain, messages, fields)


def _decode_rate(server: ServedModel, messages: Messages, fields: dict[str, object]) -> float:
    """Tokens a second from the first piece to the last."""
    client = StreamClient(server.url, server.model)

    async def ask() -> StreamTimes:
        return await client.chat(messages, answer_tokens=_ANSWER_TOKENS, ignore_eos=True, **fields)

    answer = asyncio.run(ask())
    return (answer.tokens - 1) / (answer.pieces_s[-1] - answer.pieces_s[0])
