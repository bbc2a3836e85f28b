"""``python -m benchmarks.sampling``: what choosing a token costs, ours beside llama.cpp's samplers, in one run.

Logits are the bundled model's own, behind each token of an English text; for larger vocabularies, the likeliest
thousand of them over a bulk drawn from the rest that together is as likely as the rest was. ``--even`` takes a normal
distribution instead, which no model gives: thousands of tokens are within top-p there, the worst for every filter.
Both sides start from one row of a model's output, in turns: ours changes it in place, llama.cpp's copies it into its
array of structs, as ``llama_sampler_sample`` does.

A share is measured where tokens are chosen: right behind a step, which leaves the caches cold for the first of its
rows and not for the others. The step is the bundled model's for its vocabulary, and for the largest that of a model
with the sizes of Gemma 3 1B, made for the occasion (some 560 MB, in the directory for temporary files).
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.decode_step import DecodeStep
from benchmarks.gemma_shape import VOCABULARY as GEMMA_VOCABULARY
from benchmarks.gemma_shape import write_gemma_shape
from benchmarks.llama_chain import LlamaChain
from benchmarks.machine import describe_machine
from engine.native.model import NativeModel
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sampling.terms import TermReader, Terms
from model_registry.sources.bundled import locate_bundled

Logits = npt.NDArray[np.float32]

CHAINS = {
    "greedy": SamplingParams(temperature=0.0),
    "temperature": SamplingParams(temperature=0.8),
    "temperature, top-p 0.95": SamplingParams(temperature=0.8, top_p=0.95),
    "temperature, top-k 40, top-p 0.95, min-p 0.05": SamplingParams(
        temperature=0.8, top_k=40, top_p=0.95, min_p=0.05
    ),
    "temperature, min-p 0.05": SamplingParams(temperature=0.8, min_p=0.05),
    "top-p 0.95, three penalties": SamplingParams(
        top_p=0.95, repeat_penalty=1.1, frequency_penalty=0.5, presence_penalty=0.5
    ),
    "top-k 40, DRY over 1,024 tokens": SamplingParams(top_k=40, dry_multiplier=0.8, dry_penalty_last_n=1024),
    "typical-p 0.9": SamplingParams(typical_p=0.9),
    "top-n-sigma 1.5": SamplingParams(top_n_sigma=1.5),
    "XTC, always": SamplingParams(xtc_probability=1.0),
    "dynamic temperature": SamplingParams(dynatemp_range=0.5),
    "mirostat 1": SamplingParams(mirostat=1),
    "mirostat 2": SamplingParams(mirostat=2),
}
_VOCABULARIES = (151_936, GEMMA_VOCABULARY)
_WIDTHS = (1, 8)
_HISTORY = 1024
_HEAD = 1000
_SHARE_TURNS = 20


def stretch(logits: Logits, size: int) -> Logits:
    """Rows of ``logits`` over a vocabulary of ``size``: the same head, and a longer tail, as likely together."""
    if size == logits.shape[1]:
        return logits
    random = np.random.default_rng(1)
    rows = []
    thinner = math.log((size - _HEAD) / (logits.shape[1] - _HEAD))
    for row in logits:
        ordered = np.sort(row)[::-1]
        bulk = random.choice(ordered[_HEAD:], size - _HEAD) - thinner
        rows.append(random.permutation(np.concatenate([ordered[:_HEAD], bulk])))
    return np.array(rows, dtype=np.float32)


def even(size: int) -> Logits:
    """Rows of a normal distribution with a few peaks."""
    random = np.random.default_rng(1)
    rows = random.normal(0, 3, (20, size)).astype(np.float32)
    rows[:, :5] += 8.0
    return rows


class Chains:
    """Draws tokens with one set of parameters, from rows of logits in turn."""

    def __init__(self, params: SamplingParams, logits: Logits, model: NativeModel) -> None:
        self._params = params
        self._logits = logits
        self._model = model
        self._history = np.random.default_rng(2).integers(0, 2000, _HISTORY).astype(np.int32)
        self._scratch = Scratch(logits.shape[1])

    def _sampler(self) -> Sampler:
        vocabulary = self._model.vocabulary
        is_own = self._logits.shape[1] == vocabulary.size
        return Sampler(
            self._params,
            prompt=self._history,
            choice=0,
            end_tokens=vocabulary.end_tokens,
            scratch=self._scratch,
            # Made-up tokens have no text that could break a repeat.
            terms=TermReader(vocabulary).read(self._params) if is_own else Terms(),
        )

    def seconds(self, rounds: int) -> tuple[float, float]:
        """Median seconds a token, ours and llama.cpp's, in turns row by row."""
        sampler = self._sampler()
        row = np.empty(self._logits.shape[1], dtype=np.float32)
        chain = LlamaChain(self._params, row.size, draws=True, model=self._model)
        chain.accept(self._history.tolist())

        def draw_theirs() -> None:
            chain.accept([chain.draw(row)])

        def draw_ours() -> None:
            sampler.sample(row, may_end=True)

        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            for source in self._logits:
                for draw, times in ((draw_ours, ours), (draw_theirs, theirs)):
                    np.copyto(row, source)
                    times.append(_time(draw))
        chain.close()
        return statistics.median(ours), statistics.median(theirs)

    def share(self, step: DecodeStep, width: int) -> float:
        """What choosing ``width`` tokens takes behind a step of that width, for the step's time."""
        samplers = [self._sampler() for _ in range(width)]
        rows = np.empty((width, self._logits.shape[1]), dtype=np.float32)

        def draw() -> None:
            for sampler, row in zip(samplers, rows, strict=True):
                sampler.sample(row, may_end=True)

        draws: list[float] = []
        steps: list[float] = []
        for source in self._logits[:_SHARE_TURNS]:
            steps.append(step.run(width))
            # As a step leaves its rows: just written.
            np.copyto(rows, source)
            draws.append(_time(draw))
        return statistics.median(draws) / statistics.median(steps)


def _time(draw: Callable[[], None]) -> float:
    started_s = time.perf_counter()
    draw()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="turns over all logits (%(default)s)")
    parser.add_argument("--even", action="store_true", help="logits of a normal distribution, the worst case")
    options = parser.parse_args()
    path = locate_bundled()
    if path is None:
        raise SystemExit("the bundled model is not installed: run 'make setup'")
    console = Console()
    console.print(describe_machine())
    widest = max(_WIDTHS)
    with tempfile.TemporaryDirectory(prefix="nibble-gemma-") as directory, ExitStack() as stack:
        model = NativeModel(str(path), None)
        stack.callback(model.close)
        gemma = NativeModel(str(write_gemma_shape(Path(directory) / "gemma-shape.gguf")), None)
        stack.callback(gemma.close)
        steps = {
            step.vocabulary_size: step
            for step in (stack.enter_context(DecodeStep(each, widest=widest)) for each in (model, gemma))
        }
        own = steps[model.vocabulary.size].logits()
        for size in (model.vocabulary.size, *_VOCABULARIES):
            logits = even(size) if options.even else stretch(own, size)
            console.print(_table(logits, model, steps.get(size), options.rounds))


def _table(logits: Logits, model: NativeModel, step: DecodeStep | None, rounds: int) -> Table:
    widths = _WIDTHS if step else ()
    table = Table(title=f"one token of a vocabulary of {logits.shape[1]:,}: median us, and share of the step")
    for heading in ("chain", "nibble", "llama.cpp", *(f"share at width {width}" for width in widths)):
        table.add_column(heading, justify="left" if heading == "chain" else "right")
    for name, params in CHAINS.items():
        chains = Chains(params, logits, model)
        ours_s, theirs_s = chains.seconds(rounds)
        shares = [f"{chains.share(step, width):.2%}" for width in widths] if step else []
        table.add_row(name, f"{ours_s * 1e6:.0f}", f"{theirs_s * 1e6:.0f}", *shares)
    return table


if __name__ == "__main__":
    main()
