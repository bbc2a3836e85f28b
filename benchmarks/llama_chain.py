"""llama.cpp's own samplers, to measure ours beside and to check ours against. Not used by the server."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.native.model import NativeModel
from engine.sampling.params import SamplingParams

_TOKEN = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_FEWEST_OF_MIROSTAT = 100


class LlamaChain:
    """The chain that llama.cpp's server would build from ``params``. Frees what it made when it is closed.

    The ``model`` is needed where DRY is on, which searches its vocabulary. Without ``draws`` the chain ends behind the
    temperature, so that all candidates are left to be looked at.
    """

    def __init__(
        self,
        params: SamplingParams,
        vocabulary_size: int,
        *,
        draws: bool,
        model: NativeModel | None = None,
    ) -> None:
        self._ids = np.arange(vocabulary_size, dtype=np.int32)
        self._data = np.zeros(vocabulary_size, dtype=_TOKEN)
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for sampler in _samplers(params, vocabulary_size, draws, model):
            llama.llama_sampler_chain_add(self._chain, sampler)

    def close(self) -> None:
        llama.llama_sampler_free(self._chain)

    def accept(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            llama.llama_sampler_accept(self._chain, token)

    def apply(self, logits: npt.NDArray[np.float32]) -> Any:  # noqa: ANN401 - a ctypes structure
        """Run the chain over ``logits``, shape (v,), as ``llama_sampler_sample`` does: through an array of structs."""
        self._data["id"] = self._ids
        self._data["logit"] = logits
        pointer = self._data.ctypes.data_as(llama.llama_token_data_p)
        array = llama.llama_token_data_array(data=pointer, size=logits.size, selected=-1, sorted=False)
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        return array

    def draw(self, logits: npt.NDArray[np.float32]) -> int:
        array = self.apply(logits)
        return int(array.data[array.selected].id)

    def candidates(self, logits: npt.NDArray[np.float32]) -> dict[int, float]:
        """The tokens left, and their logits divided by the temperature."""
        array = self.apply(logits)
        # A sampler may have moved the beginning of the array.
        start = (ctypes.addressof(array.data.contents) - self._data.ctypes.data) // _TOKEN.itemsize
        left = self._data[start : start + array.size]
        left = left[left["logit"] > -np.inf]
        return dict(zip(left["id"].tolist(), left["logit"].tolist(), strict=True))


def _samplers(params: SamplingParams, size: int, draws: bool, model: NativeModel | None) -> list[Any]:
    keep, seed = params.min_keep, 0
    made = []
    if params.repeat_penalty != 1.0 or params.frequency_penalty or params.presence_penalty:
        made.append(
            llama.llama_sampler_init_penalties(
                size,
                params.repeat_last_n,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        )
    if params.dry_multiplier:
        assert model is not None, "DRY needs a vocabulary"
        texts = [text.encode() for text in params.dry_sequence_breakers]
        made.append(
            llama.llama_sampler_init_dry(
                llama.llama_model_get_vocab(model.handle),
                params.dry_multiplier,
                params.dry_base,
                params.dry_allowed_length,
                params.dry_penalty_last_n,
                (ctypes.c_char_p * len(texts))(*texts),
                len(texts),
            )
        )
    if params.mirostat:
        made.append(llama.llama_sampler_init_temp(params.temperature))
        tau, eta = params.mirostat_tau, params.mirostat_eta
        made.append(
            llama.llama_sampler_init_mirostat(size, seed, tau, eta, _FEWEST_OF_MIROSTAT)
            if params.mirostat == 1
            else llama.llama_sampler_init_mirostat_v2(seed, tau, eta)
        )
        return made
    if params.top_n_sigma > 0.0:
        made.append(llama.llama_sampler_init_top_n_sigma(params.top_n_sigma))
    if params.top_k > 0:
        made.append(llama.llama_sampler_init_top_k(params.top_k))
    if params.typical_p < 1.0:
        made.append(llama.llama_sampler_init_typical(params.typical_p, keep))
    if params.top_p < 1.0:
        made.append(llama.llama_sampler_init_top_p(params.top_p, keep))
    if params.min_p > 0.0:
        made.append(llama.llama_sampler_init_min_p(params.min_p, keep))
    if params.xtc_probability > 0.0:
        made.append(llama.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, keep, seed))
    made.append(
        llama.llama_sampler_init_temp_ext(params.temperature, params.dynatemp_range, params.dynatemp_exponent)
    )
    if draws:
        made.append(
            llama.llama_sampler_init_greedy() if params.is_greedy else llama.llama_sampler_init_dist(seed)
        )
    return made
