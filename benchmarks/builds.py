"""Two builds of llama.cpp, by turns: what it costs that a portable one chooses its kernels when it starts.

By the CPU time of one thread: builds are to be compared, and what else the machine does is not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bare_loop import BareLoop
from benchmarks.result import Result
from benchmarks.workload import Workload

_GOAL = 0.95
_PAIRS_PER_ROUND = 8
"""Of a fraction of a second each: many short turns, since the machine's own speed drifts within seconds."""
_WORKLOADS = {
    "prefill of 128 tokens": Workload(1, 1, prompt_tokens=128, answer_tokens=1),
    "decode, 1 sequence": Workload(1, 1, prompt_tokens=1, answer_tokens=16),
    "decode, 16 sequences": Workload(16, 1, prompt_tokens=1, answer_tokens=8),
}


def measure_builds(model_path: str, portable_python: Path, *, rounds: int) -> Iterator[Result]:
    """This environment's build beside that of ``portable_python``, such as the image's (``make test-image``)."""
    with ExitStack() as stack:
        native, portable = (
            stack.enter_context(BareLoop(model_path, width=16, slot_tokens=256, threads=1, python=python))
            for python in (None, portable_python)
        )
        kernels = ", ".join(portable.kernels()) or "one library for this processor alone"
        for name, workload in _WORKLOADS.items():
            yield _compare(name, workload, native, portable, rounds * _PAIRS_PER_ROUND, kernels)


def _compare(
    name: str, workload: Workload, native: BareLoop, portable: BareLoop, pairs: int, kernels: str
) -> Result:
    ratios, rates = [], []
    for number in range(pairs):
        # Who is first changes, so that a drift within a pair favours nobody.
        pair = (native, portable) if number % 2 else (portable, native)
        measured = {id(loop): loop.measure(workload, seed=number) for loop in pair}
        ratios.append(measured[id(portable)] / measured[id(native)])
        rates.append(measured[id(portable)])
    low, ratio, high = statistics.quantiles(ratios, n=4)
    tokens = workload.prompt_tokens if workload.answer_tokens == 1 else 1
    return Result(
        f"portable build, {name}",
        f"{ratio:.3f} of the native build",
        f"at least {_GOAL}",
        ratio >= _GOAL,
        f"{kernels}; {pairs} pairs, half of them between {low:.3f} and {high:.3f};"
        f" {statistics.median(rates) * tokens:.0f} tok/s on one thread",
        score=ratio / _GOAL,
    )
