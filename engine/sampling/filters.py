"""The filters that narrow a distribution: which tokens may be drawn at all.

Each takes the candidates and its parameter, and keeps at least one of them. The formulas are llama.cpp's
(src/llama-sampler.cpp); none sorts the whole vocabulary: a threshold, chosen so that the result is exact, first
leaves some hundred candidates. Where a parameter asks for at least ``min_keep`` tokens, that many are left if
there are that many.
"""

from __future__ import annotations

import math

import numpy as np

from engine.native.vocabulary_scan import reaching
from engine.sampling.candidates import Candidates, Ids, fewest_reaching, largest

_SMALL = 1024
_TINY = 1e-45
"""The least float32 above zero."""
_RADII = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 3e38)
"""Distances from the entropy, in nats; the last is that of every token that is not banned."""


def top_n_sigma(candidates: Candidates, sigmas: float) -> None:
    """Keep logits at most ``sigmas`` standard deviations of all logits under the largest (arXiv 2411.07641)."""
    logits = candidates.logits
    # Banned tokens are no part of the statistics.
    finite = logits if logits.min() > -np.inf else logits[logits > -np.inf]
    out = candidates.scratch.other[: finite.size]
    deviation = np.subtract(finite, finite.mean(), out=out)
    sigma = math.sqrt(float(np.multiply(deviation, deviation, out=out).mean()))
    candidates.keep(reaching(logits, candidates.peak - sigmas * sigma))


def top_k(candidates: Candidates, count: int) -> None:
    """Keep the ``count`` likeliest."""
    if count < candidates.size:
        candidates.keep(largest(candidates.logits, count))


def typical_p(candidates: Candidates, p: float, min_keep: int) -> None:
    """Keep the tokens whose surprise is nearest to the entropy until they hold more than ``p`` (arXiv 2202.00666)."""
    weights, total = candidates.weights, candidates.total
    center = np.float32(candidates.peak + candidates.mean_depth)
    out = candidates.scratch.other if candidates.ids is None else np.empty_like(candidates.logits)
    strangeness = np.abs(np.subtract(candidates.logits, center, out=out), out=out)
    goal = math.nextafter(p * total, math.inf)
    for radius in _RADII:
        near = np.flatnonzero(strangeness <= radius)
        held = weights[near]
        if near.size >= min_keep and float(held.sum(dtype=np.float64)) >= goal:
            break
    else:  # rounding: all together hold a little less
        near = np.flatnonzero(weights > 0.0)
        held = weights[near]
    closeness = np.negative(strangeness[near])
    kept = fewest_reaching(closeness, held, goal)
    if kept.size < min_keep:
        kept = largest(closeness, min_keep)
    candidates.keep(near[kept], has_peak=False)


def top_p(candidates: Candidates, p: float, min_keep: int) -> None:
    """Keep the fewest tokens whose probabilities add up to at least ``p`` (nucleus sampling, arXiv 1904.09751)."""
    kept = _nucleus(candidates, p)
    candidates.keep(kept if kept.size >= min_keep else largest(candidates.logits, min_keep))


def _nucleus(candidates: Candidates, p: float) -> Ids:
    weights, total = candidates.weights, candidates.total
    if candidates.size <= _SMALL:
        return fewest_reaching(weights, weights, p * total)
    # Few tokens can be likelier than 2^-15, and mostly they suffice; those below the last bound hold less than 1 - p.
    near, held = np.empty(0, dtype=np.intp), weights[:0]
    for share in (2.0**-15, (1.0 - p) / candidates.size):
        near = reaching(weights, max(share * total, _TINY))
        held = weights[near]
        if near.size and float(held.sum(dtype=np.float64)) >= p * total:
            break
    return near[fewest_reaching(held, held, p * total)]


def min_p(candidates: Candidates, share: float, min_keep: int) -> None:
    """Keep the tokens at least ``share`` times as likely as the likeliest (arXiv 2407.01082)."""
    kept = reaching(candidates.logits, candidates.peak + math.log(share))
    candidates.keep(kept if kept.size >= min_keep else largest(candidates.logits, min_keep))


def xtc(candidates: Candidates, threshold: float, min_keep: int) -> None:
    """Exclude top choices: of the tokens at least as likely as ``threshold``, keep only the least likely.

    The caller decides when: at each token with the request's ``xtc_probability``.
    """
    bound = max(threshold * candidates.total, _TINY)
    above = reaching(candidates.weights, bound)
    if above.size > 1 and candidates.possible - above.size + 1 >= min_keep:
        candidates.strike(np.delete(above, candidates.logits[above].argmin()))


def dynamic_temperature(candidates: Candidates, middle: float, spread: float, exponent: float) -> float:
    """A temperature within ``spread`` of ``middle``, the higher the more even the distribution (arXiv 2309.02772).

    How even: the entropy as a share of the most that so many candidates could have. Tokens that were banned or
    struck out are no candidates here; llama.cpp counts them where they are still in its array.
    """
    possible = candidates.possible
    if possible <= 1:
        return middle
    evenness = min(1.0, candidates.entropy / math.log(possible))
    lowest, highest = max(0.0, middle - spread), middle + spread
    return lowest + (highest - lowest) * math.pow(evenness, exponent)
