"""The filters of one request in the order in which they act, which is llama.cpp's default."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.sampling import filters
from engine.sampling.candidates import Candidates
from engine.sampling.params import SamplingParams

Filter = Callable[[Candidates], None]


def build_chain(params: SamplingParams, random: Callable[[], float]) -> list[Filter]:
    """The filters that are on. ``random`` gives numbers of [0, 1), one per draw where XTC is on."""
    chain: list[Filter] = []
    keep = params.min_keep
    if params.top_n_sigma > 0.0:
        chain.append(partial(filters.top_n_sigma, sigmas=params.top_n_sigma))
    if params.top_k > 0:
        chain.append(partial(filters.top_k, count=params.top_k))
    if params.typical_p < 1.0:
        chain.append(partial(filters.typical_p, p=params.typical_p, min_keep=keep))
    if params.top_p < 1.0:
        chain.append(partial(filters.top_p, p=params.top_p, min_keep=keep))
    if params.min_p > 0.0:
        chain.append(partial(filters.min_p, share=params.min_p, min_keep=keep))
    if params.xtc_probability > 0.0 and params.xtc_threshold <= 0.5:
        chain.append(partial(_xtc_by_chance, params=params, random=random))
    return chain


def _xtc_by_chance(candidates: Candidates, params: SamplingParams, random: Callable[[], float]) -> None:
    if random() < params.xtc_probability:
        filters.xtc(candidates, params.xtc_threshold, params.min_keep)
