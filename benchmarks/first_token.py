"""Eight clients that arrive together: how soon does the median one see its first token?"""

from __future__ import annotations

import statistics

from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.workload import Workload

_CLIENTS = 8


def measure_first_token(served: ServedModel, *, rounds: int) -> Result:
    """Median first token, as a share of the time from the first question to the end of all answers."""
    shares, firsts_s, prompts_s = [], [], []
    for number in range(rounds):
        streams = served.measure(Workload(_CLIENTS, requests_per_client=1), seed=70_000 + number)
        begin_s = min(stream.asked_s for stream in streams)
        # All prompts are read when the last stream has its first token.
        all_prompts_s = max(stream.pieces_s[0] for stream in streams) - begin_s
        first_s = statistics.median(stream.first_token_s for stream in streams)
        shares.append(first_s / all_prompts_s)
        firsts_s.append(first_s)
        prompts_s.append(all_prompts_s)
    share = statistics.median(shares)
    return Result(
        "first token, 8 clients arriving together, 96-token prompts",
        f"{share:.2f} of the time that all eight prompts take",
        "at most 0.25",
        share <= 0.25,
        f"median first token {statistics.median(firsts_s):.2f} s, all prompts {statistics.median(prompts_s):.2f} s",
    )
