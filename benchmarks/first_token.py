"""Eight clients that arrive together and go on asking: how soon does the median request see its first token?

In the first wave eight unread prompts compete, and no order of reading them can give the median one its first
token before half of them are read: 0.56 of the time is the limit there, and it is told beside the figure.
"""

from __future__ import annotations

import statistics

from benchmarks.bare_loop import BareLoop
from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.workload import Workload

_CLIENTS = 8
_REQUESTS = 4


def measure_first_token(bare: BareLoop, served: ServedModel, *, rounds: int) -> Result:
    """Median first token over all requests, as a share of the time that the library takes to read eight prompts."""
    shares: list[float] = []
    wave_shares: list[float] = []
    firsts_s: list[float] = []
    for seed in range(70_000, 70_000 + rounds):
        prompts_only = Workload(_CLIENTS, 1, answer_tokens=1)
        prompts_s = prompts_only.tokens / bare.measure(prompts_only, seed)
        streams = served.measure(Workload(_CLIENTS, _REQUESTS), seed)
        first_s = statistics.median(stream.first_token_s for stream in streams)
        # The clients' answers come client by client, and the first of each belongs to the wave.
        wave_s = statistics.median(stream.first_token_s for stream in streams[::_REQUESTS])
        shares.append(first_s / prompts_s)
        wave_shares.append(wave_s / prompts_s)
        firsts_s.append(first_s)
    share = statistics.median(shares)
    return Result(
        "first token, 8 clients arriving together, 96-token prompts",
        f"{share:.2f} of the time that all eight prompts take",
        "at most 0.25",
        share <= 0.25,
        f"median {statistics.median(firsts_s):.2f} s; in the first wave {statistics.median(wave_shares):.2f}, "
        "where 0.56 is the limit",
        score=0.25 / share,
    )
