"""What this machine makes of a model: prefill by chunk, decode by width, in tokens a second.

Runs in a process of its own (``python -m engine.calibration``), spoken to by ``engine.job_pipe``: it is told a
configuration and tells one row after the other, then what a worker would choose.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import msgspec
import numpy as np

from engine import job_pipe
from engine.backend import Backend
from engine.config import EngineConfig, ModelFacts
from engine.errors import NibbleError
from engine.loader import load_generator
from engine.native import library
from engine.patience import Patience

PREFILL_CHUNKS = (16, 32, 64, 96, 128, 256, 512)
DECODE_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_REPEATS = 2
_DECODE_STEPS = 8
_CONTEXT = 1024


class Rate(msgspec.Struct, frozen=True, tag="rate"):
    """One row: ``size`` is tokens of a chunk, or sequences that decode together."""

    kind: Literal["prefill", "decode"]
    size: int
    tokens_per_s: float


class Chosen(msgspec.Struct, frozen=True, tag="chosen"):
    """What a worker with this configuration serves with."""

    facts: ModelFacts


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    message: str


Line = Rate | Chosen | Failed


def measure_rates(
    backend: Backend,
    patience: Patience,
    chunks: Sequence[int] = PREFILL_CHUNKS,
    widths: Sequence[int] = DECODE_WIDTHS,
    *,
    repeats: int = _REPEATS,
) -> Iterator[Rate]:
    """The best of a few runs each, since noise only ever makes a run slower; as patient as the steps of a worker."""
    for chunk in chunks:
        if chunk <= min(backend.batch_tokens, backend.slot_tokens):
            yield Rate(
                "prefill", chunk, chunk / _least_s(partial(_prefill_s, backend, chunk), patience, repeats)
            )
    for width in widths:
        if width <= min(backend.slots, backend.batch_tokens):
            yield Rate(
                "decode", width, width / _least_s(partial(_decode_s, backend, width), patience, repeats)
            )


def _least_s(run_s: Callable[[], float], patience: Patience, repeats: int) -> float:
    least_s = math.inf
    for _ in range(repeats):
        least_s = min(least_s, run_s())
        patience.after_step()
    return least_s


def _prefill_s(backend: Backend, chunk: int) -> float:
    """Seconds for ``chunk`` tokens of one prompt."""
    backend.clear_slot(0)
    batch = backend.batch
    batch.token[:chunk] = np.arange(chunk) % backend.vocabulary_size
    batch.position[:chunk] = np.arange(chunk)
    batch.slot[:chunk] = 0
    batch.wants_logits[:chunk] = 0
    batch.wants_logits[chunk - 1] = 1
    began_s = time.perf_counter()
    backend.decode(chunk, 1)
    return time.perf_counter() - began_s


def _decode_s(backend: Backend, width: int) -> float:
    """Seconds for one step of ``width`` sequences, the mean of several."""
    batch = backend.batch
    for slot in range(width):
        backend.clear_slot(slot)
    batch.token[:width] = 1
    batch.slot[:width] = np.arange(width)
    batch.wants_logits[:width] = 1
    began_s = time.perf_counter()
    for step in range(_DECODE_STEPS):
        batch.position[:width] = step
        backend.decode(width, width)
    return (time.perf_counter() - began_s) / _DECODE_STEPS


def main() -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)

    def write(line: Line) -> None:
        job_pipe.tell(msgspec.json.encode(line))

    config = msgspec.json.decode(job_pipe.read_request(), type=EngineConfig)
    try:
        chosen = load_generator(config).facts
        wide = msgspec.structs.replace(config, context=_CONTEXT, parallel=max(DECODE_WIDTHS))
        patience = Patience(chosen.threads, library.set_patience)
        for rate in measure_rates(load_generator(wide).backend, patience):
            write(rate)
    except NibbleError as error:
        write(Failed(error.message))
        sys.exit(1)
    write(Chosen(chosen))


if __name__ == "__main__":
    main()
