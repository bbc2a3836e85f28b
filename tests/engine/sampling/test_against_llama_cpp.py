"""Ours against llama.cpp's own samplers: the same logits leave the same candidates, with the same logits.

But for what rounding decides: llama.cpp adds probabilities up one by one in float32, and over thousands of tokens
its cut comes some early or late. ``test_filters`` proves ours against sums in double precision. Typical sampling
behind top-n-sigma is left out, since there llama.cpp multiplies 0 by infinity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.llama_chain import LlamaChain
from engine.native.model import NativeModel
from engine.sampling import mirostat
from engine.sampling.candidates import Candidates
from engine.sampling.chain import build_chain
from engine.sampling.dry import Dry
from engine.sampling.filters import dynamic_temperature
from engine.sampling.params import SamplingParams
from engine.sampling.penalties import Penalties
from engine.sampling.scratch import Scratch
from engine.sampling.terms import TermReader
from model_registry.sources.bundled import locate_bundled

Logits = npt.NDArray[np.float32]

_ROUNDING = 5e-5
SIZES = [50, 1500, 9000]
P = SamplingParams
CHAINS = [
    P(temperature=0.7),
    P(top_k=1, temperature=1.5),
    P(top_k=40),
    P(top_k=700),
    P(top_p=0.3),
    P(top_p=0.95),
    P(top_p=0.999),
    P(min_p=0.05),
    P(min_p=0.9, min_keep=20),
    P(typical_p=0.2),
    P(typical_p=0.95),
    P(typical_p=0.1, min_keep=30),
    P(top_n_sigma=0.7),
    P(top_n_sigma=2.0),
    P(xtc_probability=1.0, xtc_threshold=0.01),
    P(xtc_probability=1.0, xtc_threshold=0.01, min_keep=49),
    P(xtc_probability=1.0, xtc_threshold=0.3, top_k=5),
    P(dynatemp_range=0.5, dynatemp_exponent=1.5),
    P(dynatemp_range=2.0, top_k=20),
    P(top_p=0.2, min_keep=25),
    P(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
    P(top_n_sigma=1.5, top_k=100, top_p=0.9, min_p=0.01, temperature=0.6),
    P(top_k=100, typical_p=0.9, top_p=0.9, min_p=0.01, temperature=0.6),
    P(typical_p=0.9, xtc_probability=1.0, xtc_threshold=0.05, temperature=1.3, dynatemp_range=0.3),
]


def _logits(size: int, seed: int) -> Logits:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, size)
    logits[random.integers(0, size, 6)] += 8.0
    return logits.astype(np.float32)


def _ours(params: SamplingParams, logits: Logits) -> dict[int, float]:
    """The tokens left, and their logits divided by the temperature."""
    candidates = Candidates(logits.copy(), Scratch(logits.size))
    for narrow in build_chain(params, lambda: 0.0):
        narrow(candidates)
    temperature = params.temperature
    if params.dynatemp_range:
        temperature = dynamic_temperature(
            candidates, temperature, params.dynatemp_range, params.dynatemp_exponent
        )
    ids = range(logits.size) if candidates.ids is None else candidates.ids.tolist()
    left = dict(zip(ids, (candidates.logits / temperature).tolist(), strict=True))
    return {token: logit for token, logit in left.items() if logit > -math.inf}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("number", range(len(CHAINS)))
def test_the_same_candidates_are_left(number: int, size: int) -> None:
    params = CHAINS[number]
    for seed in range(4):
        logits = _logits(size, seed)
        chain = LlamaChain(params, size, draws=False)
        theirs, ours = chain.candidates(logits), _ours(params, logits)
        chain.close()
        probabilities = np.exp(logits.astype(np.float64))
        probabilities /= probabilities.sum()
        other = sorted(ours.keys() ^ theirs.keys())
        assert len(other) <= 2 or probabilities[other].sum() < _ROUNDING
        if len(theirs) > 1:  # llama.cpp leaves the temperature of a single one alone
            both = sorted(ours.keys() & theirs.keys())
            assert [ours[t] for t in both] == pytest.approx([theirs[t] for t in both], rel=1e-3, abs=1e-3)


def test_the_repetition_penalty_is_the_same() -> None:
    """Its other two are OpenAI's here, which leave the prompt out of the count."""
    params = P(repeat_penalty=1.3, repeat_last_n=20)
    history = np.random.default_rng(1).integers(0, 40, 60).astype(np.int32)
    logits = _logits(50, 2)
    chain = LlamaChain(params, 50, draws=False)
    chain.accept(history.tolist())
    theirs = chain.candidates(logits)
    chain.close()
    penalties = Penalties(params, history[:50])
    for token in history[50:].tolist():
        penalties.accept(token)
    penalties.apply(logits)
    assert logits.tolist() == pytest.approx([theirs[t] for t in range(50)], rel=1e-5)


def test_counted_penalties_are_the_same_over_generated_tokens() -> None:
    params = P(frequency_penalty=0.7, presence_penalty=-0.4, repeat_penalty=1.2, repeat_last_n=64)
    generated = np.random.default_rng(3).integers(0, 30, 40).tolist()
    logits = _logits(50, 4)
    chain = LlamaChain(params, 50, draws=False)
    chain.accept(generated)
    theirs = chain.candidates(logits)
    chain.close()
    penalties = Penalties(params, np.empty(0, dtype=np.int32))
    for token in generated:
        penalties.accept(token)
    penalties.apply(logits)
    assert logits.tolist() == pytest.approx([theirs[t] for t in range(50)], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tau", [1.0, 5.0, 8.0])
def test_mirostat_keeps_the_same_tokens_and_steers_alike(version: int, size: int, tau: float) -> None:
    """llama.cpp keeps its state to itself, but its array shows what it kept; ours then follows its choices."""
    params = P(mirostat=version, mirostat_tau=tau, mirostat_eta=0.3, temperature=0.9)
    chain = LlamaChain(params, size, draws=True)
    ours = mirostat.Mirostat(version, tau, 0.3, size)
    for seed in range(12):
        logits = _logits(size, seed)
        array = chain.apply(logits)
        kept = [array.data[i].id for i in range(array.size)]
        chosen = array.data[array.selected].id
        candidates = Candidates(logits.copy(), Scratch(size))
        candidates.heat(params.temperature)
        limit = ours.limit
        ours.draw(candidates, 0.0)
        left = list(range(size)) if candidates.ids is None else candidates.ids.tolist()
        # How many version 1 keeps is a power of an estimate, so rounding shows.
        assert len(set(left) ^ set(kept)) <= 1 + len(kept) // 1000
        index = left.index(chosen)
        surprise = -math.log2(float(candidates.weights[index]) / candidates.total)
        ours.limit = limit - 0.3 * (surprise - tau)
    chain.close()


@pytest.fixture(scope="module")
def model() -> Iterator[NativeModel]:
    path = locate_bundled()
    assert path is not None
    model = NativeModel(str(path), None)
    yield model
    model.close()


TEXTS = [
    "the cat sat on the mat and the cat sat on the",
    "a b a b a b a b a b a",
    'He said: "no, no, no, no". She said: "no, no',
    "one * two * three * one * two *",
    "no repeats at all in here",
    "The end. The end of it. The end. The end of",
    "x" * 200,
]


@pytest.mark.model
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "params",
    [
        P(dry_multiplier=0.8),
        P(dry_multiplier=0.8, dry_base=3.0, dry_allowed_length=1, dry_penalty_last_n=2000),
        P(dry_multiplier=1.5, dry_allowed_length=0, dry_penalty_last_n=16),
        P(dry_multiplier=1.0, dry_base=1.0, dry_penalty_last_n=2000),
        P(dry_multiplier=0.8, dry_sequence_breakers=("The end", " the", ", no"), dry_penalty_last_n=100),
        P(dry_multiplier=0.8, dry_sequence_breakers=("cat sat", "b a b"), dry_penalty_last_n=300),
    ],
    ids=range(6),
)
def test_dry_is_the_same(model: NativeModel, params: SamplingParams, text: str) -> None:
    vocabulary = model.vocabulary
    history = vocabulary.tokenize(text, add_special=False, parse_special=False)
    breakers = TermReader(vocabulary).read(params).breakers
    for prompt_length in {0, history.size // 2, history.size}:
        chain = LlamaChain(params, vocabulary.size, draws=False, model=model)
        chain.accept(history.tolist())
        theirs = chain.apply(np.zeros(vocabulary.size, dtype=np.float32))
        expected = {theirs.data[i].id: theirs.data[i].logit for i in range(theirs.size)}
        chain.close()
        dry = Dry(params, history[:prompt_length], breakers)
        for token in history[prompt_length:].tolist():
            dry.accept(token)
        logits = np.zeros(vocabulary.size, dtype=np.float32)
        dry.apply(logits)
        changed = {t: logit for t, logit in enumerate(logits.tolist()) if logit}
        # Past a billion ours stops: nothing is more impossible than that.
        wanted = {t: max(logit, -1e9) for t, logit in expected.items() if logit}
        assert changed == pytest.approx(wanted, rel=1e-4)
