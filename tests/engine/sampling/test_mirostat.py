from __future__ import annotations

import numpy as np
import pytest

from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch

_SIZE = 3000


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [2.0, 4.0])
def test_the_surprise_of_the_text_comes_near_the_target(version: int, tau: float) -> None:
    """Zipf's law, as of words, which version 1 assumes."""
    params = SamplingParams(mirostat=version, mirostat_tau=tau, seed=5)
    sampler = Sampler(
        params,
        prompt=np.empty(0, dtype=np.int32),
        choice=0,
        end_tokens=np.empty(0, dtype=np.int32),
        scratch=Scratch(_SIZE),
    )
    logits = (-1.1 * np.log(np.arange(1, _SIZE + 1))).astype(np.float32)
    drawn = [sampler.sample(logits.copy(), may_end=True) for _ in range(1500)][300:]
    # Surprise is measured among what is kept, so compare with the tokens' frequencies.
    counts = np.bincount(drawn)
    shares = counts[counts > 0] / len(drawn)
    assert -(shares * np.log2(shares)).sum() == pytest.approx(tau, abs=0.5)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "logits",
    [
        [0.0],
        [0.0, 0.0],
        [5.0] * 400,
        [1.0, -np.inf, -np.inf],
        [1e4, -1e4, 0.0],
        [-np.inf] * 300 + [2.0],
        np.linspace(-80, 80, 300),
    ],
    ids=range(7),
)
@pytest.mark.parametrize("tau", [0.0, 0.5, 100.0])
def test_no_distribution_is_too_odd(version: int, logits: list[float], tau: float) -> None:
    row = np.array(logits, dtype=np.float32)
    params = SamplingParams(mirostat=version, mirostat_tau=tau, mirostat_eta=1.0, seed=1)
    sampler = Sampler(
        params,
        prompt=np.empty(0, dtype=np.int32),
        choice=0,
        end_tokens=np.empty(0, dtype=np.int32),
        scratch=Scratch(row.size),
    )
    for _ in range(50):
        assert row[sampler.sample(row.copy(), may_end=True)] > -np.inf
