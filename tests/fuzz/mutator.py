"""Inputs made of others: seeded, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence

_LONGEST = 512
_INTERESTING = (0, 1, 127, 128, 255)


class Mutator:
    """Makes inputs of ``seeds`` and of ``words`` that matter to the target, and of nothing at all now and then."""

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self._random = random.Random(seed)
        self._seeds = tuple(seeds) or (b"",)
        self._words = tuple(words) or (b"\0",)

    def next(self) -> bytes:
        choose = self._random
        if choose.random() < 0.2:
            return choose.randbytes(min(_LONGEST, int(choose.expovariate(1 / 40))))
        data = bytearray(choose.choice(self._seeds))
        for _ in range(choose.choice((1, 1, 2, 3, 5, 8, 20))):
            self._change(data)
        return bytes(data[: 8 * _LONGEST])

    def _change(self, data: bytearray) -> None:
        choose = self._random
        at = choose.randint(0, len(data))
        span = min(len(data) - at, int(choose.expovariate(1 / 8)))
        match choose.randrange(8):
            case 0:
                data[at : at + 1] = bytes([choose.choice(_INTERESTING)])
            case 1:
                data[at : at + 1] = choose.randbytes(1)
            case 2:
                data[at:at] = choose.randbytes(choose.randint(1, 6))
            case 3:
                del data[at : at + span]
            case 4:
                data[at:at] = choose.choice(self._words)
            case 5:
                data[at:at] = data[at : at + span] * choose.randint(1, 3)
            case 6:
                other = choose.choice(self._seeds)
                start = choose.randint(0, len(other))
                data[at : at + span] = other[start : start + choose.randint(0, 40)]
            case _:
                if at < len(data):
                    data[at] ^= 1 << choose.randrange(8)
