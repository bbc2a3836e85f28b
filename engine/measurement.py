"""What one model file is worth here: its speed, its memory, and how well it foretells a text.

Runs in a process of its own (``python -m engine.measurement``), spoken to by ``engine.job_pipe``: it is told a
``Measure`` and tells how far it has read, then a ``Measured`` or a ``Failed``.
"""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from engine import job_pipe
from engine.backend import Backend, DecodeFailed
from engine.calibration import measure_rates
from engine.config import EngineConfig
from engine.contention import Contention
from engine.errors import ErrorRecord, InvalidRequest, ModelLoadFailed, NibbleError
from engine.job_pipe import Failed
from engine.loader import load_generator
from engine.native import library
from engine.patience import Patience
from engine.perplexity import WINDOW, score_text
from engine.prompt_reader import Vocabulary

WIDTHS = (1, 8)
CHUNK = 512
LEAST_TOKENS = 256
"""Fewer tell of chance more than of a model."""
_PREFILLS = 2
_DECODES = 4
MOST_WAITED = 0.03
"""A share of its time waited for others with which a round still counts as quiet."""
_STATUS = Path("/proc/self/status")


class Measure(msgspec.Struct, frozen=True):
    """What to do."""

    config: EngineConfig
    """Context and parallel are not looked at: every file is measured with the same room."""
    text: str


class Read(msgspec.Struct, frozen=True, tag="read"):
    """How far it has got."""

    tokens: int
    whole: int


class Measured(msgspec.Struct, frozen=True, tag="measured", kw_only=True):
    """All that was measured of one file."""

    prefill: float
    """Tokens a second."""
    decode_1: float
    decode_8: float
    waited: float | None
    """The share of its time for which it waited for a processor, in the quietest round; None where nobody counts."""
    memory_bytes: int
    """Resident memory of this process at its most, weights and a KV cache for 8 times ``WINDOW`` tokens included."""
    tokens: int
    """Of the text."""
    scores: tuple[float, ...]
    """Log-probability of each scored token, in the order of the text."""
    vocabulary: int
    threads: int
    build: str


Line = Read | Measured | Failed


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    try:
        # What getrusage tells on Linux may be the parent's, from before this program was started in its process.
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(order: Measure) -> Measured:
    """Load, measure, read. Raises NibbleError."""
    config = msgspec.structs.replace(
        order.config,
        context=WINDOW,
        parallel=max(WIDTHS),
        kv_layout="partitioned",
        kv_budget_bytes=None,
        prefix_memory_bytes=0,
        prefix_disk_bytes=0,
        draft_model_path=None,
        adapters=(),
        embeds=False,
    )
    loaded = load_generator(config)
    vocabulary, backend = loaded.vocabulary, loaded.backend
    tokens = vocabulary.tokenize(order.text, add_special=False, parse_special=False)
    if len(tokens) < LEAST_TOKENS:
        raise InvalidRequest(
            f"the text has {len(tokens)} tokens, and fewer than {LEAST_TOKENS} tell nothing: give a longer one",
            param="text",
        )
    patience = Patience(loaded.facts.threads, library.set_patience)
    window = min(WINDOW, loaded.facts.context_trained or WINDOW)
    try:
        rates = _rates(backend, patience, min(CHUNK, window), loaded.facts.threads)
        scores = score_text(
            backend,
            tokens,
            beginning=_beginning(vocabulary),
            window=window,
            progress=lambda done, whole: _tell(Read(done, whole)),
        )
        # Once more, with some time in between: what disturbs a machine does so for seconds on end.
        rates = _best(rates, _rates(backend, patience, min(CHUNK, window), loaded.facts.threads))
    except DecodeFailed as error:
        raise ModelLoadFailed(f"{config.model_id} loads and cannot compute: {error}") from error
    if not bool(np.isfinite(scores).all()):
        raise ModelLoadFailed(f"{config.model_id} computes no numbers for this text: its file is damaged")
    return Measured(
        prefill=rates.prefill,
        decode_1=rates.decode_1,
        decode_8=rates.decode_8,
        waited=rates.waited,
        memory_bytes=peak_bytes(),
        tokens=len(tokens),
        scores=tuple(scores.tolist()),
        vocabulary=vocabulary.size,
        threads=loaded.facts.threads,
        build=loaded.facts.build,
    )


class _Rates(NamedTuple):
    """Tokens a second, and the share of the time that was lost to others."""

    prefill: float
    decode_1: float
    decode_8: float
    waited: float | None


def _rates(backend: Backend, patience: Patience, chunk: int, threads: int) -> _Rates:
    contention = Contention(threads)
    (prefill,) = measure_rates(backend, patience, (chunk,), (), repeats=_PREFILLS)
    alone, together = measure_rates(backend, patience, (), WIDTHS, repeats=_DECODES)
    return _Rates(prefill.tokens_per_s, alone.tokens_per_s, together.tokens_per_s, contention.share())


def _best(one: _Rates, other: _Rates) -> _Rates:
    """The best of both, and how good the quieter one was."""
    waits = [each for each in (one.waited, other.waited) if each is not None]
    return _Rates(
        max(one.prefill, other.prefill),
        max(one.decode_1, other.decode_1),
        max(one.decode_8, other.decode_8),
        min(waits, default=None),
    )


def _beginning(vocabulary: Vocabulary) -> int | None:
    """The token that the model wants before every text, if it wants one."""
    marks = vocabulary.tokenize("", add_special=True, parse_special=False).tolist()
    return vocabulary.beginning if marks[:1] == [vocabulary.beginning] else None


def _tell(line: Line) -> None:
    job_pipe.tell(msgspec.json.encode(line))


def main() -> None:
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    order = msgspec.json.decode(job_pipe.read_request(), type=Measure)
    try:
        _tell(measure(order))
    except NibbleError as error:
        _tell(Failed(ErrorRecord.of(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
