"""``python -m benchmarks.sampling``: what choosing a token costs, ours beside llama.cpp's samplers, in one run.

Logits are the bundled model's own, behind each token of an English text; for larger vocabularies, the likeliest
thousand of them over a bulk drawn from the rest that together is as likely as the rest was. ``--even`` takes a normal
distribution instead, which no model gives: thousands of tokens are within top-p there, the worst for every filter.
The step that a share is of is the bundled model's for its vocabulary, and for the largest that of a model with the
sizes of Gemma 3 1B, made for the occasion (some 560 MB, in the directory for temporary files).
Both sides start from one row of a model's output: ours changes it in place, llama.cpp's copies it into
its array of structs, as ``llama_sampler_sample`` does.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.gemma_shape import VOCABULARY as GEMMA_VOCABULARY
from benchmarks.gemma_shape import write_gemma_shape
from benchmarks.llama_chain import LlamaChain
from benchmarks.machine import describe_machine
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sampling.terms import TermReader, Terms
from engine.threads import choose_threads
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
_STEP_TURNS = 3
_GEMMA_TOKENS = 12
_TEXT = (
    "The history of the village began long before anyone wrote it down. Two brothers came across the hills with a "
    "cart, a cow and a bag of seed, and where the cart broke down they built a house. In the spring the river rose "
    "higher than they had ever seen it, and in the summer there was no rain at all."
)


@dataclass(frozen=True, slots=True)
class Step:
    """The time of one decode step of a model, and its logits behind each token of the text."""

    seconds: dict[int, float]
    """By width, which is how many sequences get a token in the step."""
    logits: Logits
    """Shape (tokens of the text, vocabulary)."""


def measure_step(model: NativeModel, tokens: int | None = None) -> Step:
    """Read the text token by token, in as many sequences at once as the width is, in turns; ``tokens`` of it."""
    width = max(_WIDTHS)
    context = NativeContext(
        model, slots=width, slot_tokens=512, batch_tokens=512, threads=choose_threads(None).count
    )
    text = model.vocabulary.tokenize(_TEXT, add_special=True, parse_special=False)[:tokens]
    times: dict[int, list[float]] = {count: [] for count in _WIDTHS}
    rows: list[Logits] = []
    for _ in range(_STEP_TURNS):
        for count in _WIDTHS:
            for slot in range(width):
                context.clear_slot(slot)
            for position, token in enumerate(text.tolist()):
                batch = context.batch
                batch.token[:count] = token
                batch.position[:count] = position
                batch.slot[:count] = np.arange(count)
                batch.wants_logits[:count] = 1
                started_s = time.perf_counter()
                logits = context.decode(count, count)
                times[count].append(time.perf_counter() - started_s)
                if len(rows) < text.size:
                    rows.append(logits[0].copy())
    context.close()
    # The shortest: on a machine that does other things too, that is the step by itself.
    return Step({count: min(some) for count, some in times.items()}, np.array(rows))


def measure_gemma_step() -> Step:
    """Of a model whose vocabulary is the largest. Its logits are those of random weights."""
    with tempfile.TemporaryDirectory(prefix="nibble-gemma-") as directory:
        model = NativeModel(str(write_gemma_shape(Path(directory) / "gemma-shape.gguf")), None)
        step = measure_step(model, tokens=_GEMMA_TOKENS)
        model.close()
    return step


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


def measure_chain(
    params: SamplingParams, logits: Logits, model: NativeModel, *, rounds: int
) -> tuple[float, float]:
    """Median seconds a token, ours and llama.cpp's, in turns row by row."""
    size = logits.shape[1]
    history = np.random.default_rng(2).integers(0, 2000, _HISTORY).astype(np.int32)
    vocabulary = model.vocabulary
    sampler = Sampler(
        params,
        prompt=history,
        choice=0,
        end_tokens=vocabulary.end_tokens,
        scratch=Scratch(size),
        # Made-up tokens have no text that could break a repeat.
        terms=TermReader(vocabulary).read(params) if size == vocabulary.size else Terms(),
    )
    chain = LlamaChain(params, size, draws=True, model=model)
    chain.accept(history.tolist())
    row = np.empty(size, dtype=np.float32)

    def draw_theirs() -> None:
        chain.accept([chain.draw(row)])

    def draw_ours() -> None:
        sampler.sample(row, may_end=True)

    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for source in logits:
            for draw, times in ((draw_ours, ours), (draw_theirs, theirs)):
                np.copyto(row, source)
                times.append(_time(draw))
    chain.close()
    return statistics.median(ours), statistics.median(theirs)


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
    model = NativeModel(str(path), None)
    step = measure_step(model)
    steps = {step.logits.shape[1]: step.seconds, GEMMA_VOCABULARY: measure_gemma_step().seconds}
    for size, seconds in steps.items():
        told = ", ".join(f"{s * 1e3:.1f} ms at width {w}" for w, s in seconds.items())
        console.print(f"a step of the model with {size:,} tokens: {told}")
    for size in (step.logits.shape[1], *_VOCABULARIES):
        logits = even(size) if options.even else stretch(step.logits, size)
        table = Table(title=f"one token of a vocabulary of {size:,}: median us, and share of the step")
        for heading in ("chain", "nibble", "llama.cpp", *(f"share at width {w}" for w in _WIDTHS)):
            table.add_column(heading, justify="left" if heading == "chain" else "right")
        for name, params in CHAINS.items():
            ours_s, theirs_s = measure_chain(params, logits, model, rounds=options.rounds)
            shares = [f"{ours_s * w / seconds:.2%}" for w, seconds in steps.get(size, {}).items()]
            table.add_row(name, f"{ours_s * 1e6:.0f}", f"{theirs_s * 1e6:.0f}", *shares)
        console.print(table)
    model.close()


if __name__ == "__main__":
    main()
