"""The bare library: ``llama_decode`` in a plain loop, greedy, with no server, queue, text or stream around it.

Runs in a process of its own (``python -m benchmarks.bare_loop``), and answers each line of JSON on standard input
with one on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from benchmarks.workload import Workload
from engine.config import FlashAttention
from engine.native import library
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.patience import PATIENT_US
from engine.spawned_worker import worker_environment
from engine.threads import choose_threads


class BareLoop:
    """The process, from the outside. Use as a context manager."""

    def __init__(
        self,
        model_path: str,
        *,
        width: int,
        slot_tokens: int,
        threads: int | None = None,
        python: Path | None = None,
        flash_attention: FlashAttention = "auto",
    ) -> None:
        """``threads`` are a worker's, unless given; time is then that of the CPU, which one thread spends alike on
        a busy machine. ``python`` is another environment's, whose build of llama.cpp is to be measured.
        ``flash_attention`` is the library's own choice, unless given.
        """
        paths = sys.path if python is None else [str(Path(__file__).parents[1])]
        self._process = subprocess.Popen(
            [
                python or sys.executable,
                "-m",
                "benchmarks.bare_loop",
                model_path,
                str(width),
                str(slot_tokens),
                str(threads or 0),
                flash_attention,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # That of a worker: with OpenMP's own defaults and barrier, a single busy process beside it (a client,
            # say) keeps its spinning threads from each other, and it falls to a tenth of its speed.
            env=worker_environment() | {"PYTHONPATH": os.pathsep.join(paths)},
        )

    def __enter__(self) -> Self:
        self.measure(Workload(1, 1, answer_tokens=8), seed=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.communicate()

    def kernels(self) -> list[str]:
        """Which of ggml's variants for CPUs it has loaded; none where the build has but one."""
        lines = Path(f"/proc/{self._process.pid}/maps").read_text().splitlines()
        return sorted({Path(line.split()[-1]).name for line in lines if "libggml-cpu-" in line})

    def measure(self, workload: Workload, seed: int) -> float:
        """Tokens generated a second over the whole round, prefill included."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(workload), seed]) + "\n")
        self._process.stdin.flush()
        elapsed_s = float(json.loads(self._process.stdout.readline()))
        return workload.tokens / elapsed_s


def _run(context: NativeContext, workload: Workload, seed: int, clock: Callable[[], float]) -> float:
    """Seconds for one round: waves of as many sequences as there are clients, up to the context's width."""
    prompts = [prompt for client in workload.prompts(seed) for prompt in client]
    width = min(workload.clients, context.slots)
    started_s = clock()
    for start in range(0, len(prompts), width):
        _run_wave(context, prompts[start : start + width], workload, computes_head=start == 0)
    return clock() - started_s


def _run_wave(
    context: NativeContext, prompts: list[list[int]], workload: Workload, *, computes_head: bool
) -> None:
    width, length, head = len(prompts), workload.prompt_tokens, workload.head_tokens
    newest = np.empty(width, dtype=np.int32)
    for slot, prompt in enumerate(prompts):
        start = 0
        if head and (slot or not computes_head):
            # The head stands in the first slot, under what followed it there.
            if slot:
                context.copy_slot(0, slot)
            context.cut_slot(slot, head)
            start = head
        else:
            context.clear_slot(slot)
        newest[slot] = _prefill(context, slot, prompt, start)
    batch = context.batch
    for step in range(workload.answer_tokens - 1):
        batch.token[:width] = newest
        batch.position[:width] = length + step
        batch.slot[:width] = np.arange(width)
        batch.wants_logits[:width] = 1
        newest[:] = context.decode(width, width).argmax(axis=1)


def _prefill(context: NativeContext, slot: int, prompt: list[int], start: int) -> int:
    """Compute ``prompt`` from index ``start`` on, in the largest batches; return the first token of the answer."""
    batch = context.batch
    while True:
        end = min(start + context.batch_tokens, len(prompt))
        count, is_last = end - start, end == len(prompt)
        batch.token[:count] = prompt[start:end]
        batch.position[:count] = np.arange(start, end)
        batch.slot[:count] = slot
        batch.wants_logits[:count] = 0
        batch.wants_logits[count - 1] = is_last
        logits = context.decode(count, int(is_last))
        if is_last:
            return int(logits[0].argmax())
        start = end


def _main() -> None:
    model_path, flash_attention = sys.argv[1], sys.argv[5]
    width, slot_tokens, threads = map(int, sys.argv[2:5])
    clock = time.process_time if threads else time.perf_counter
    model = NativeModel(model_path, None)
    # Nothing runs beside it, and a worker would find out.
    library.set_patience(PATIENT_US)
    context = NativeContext(
        model,
        slots=width,
        slot_tokens=slot_tokens,
        batch_tokens=512,
        threads=threads or choose_threads(None).count,
        flash_attention=msgspec.convert(flash_attention, FlashAttention),
    )
    for line in sys.stdin:
        fields, seed = json.loads(line)
        print(json.dumps(_run(context, Workload(**fields), seed, clock)), flush=True)


if __name__ == "__main__":
    _main()
