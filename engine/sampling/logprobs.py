"""Log-probabilities of tokens, as answers show them.

They are the model's own: log-softmax of the logits as computed, at temperature 1, before any bias, penalty, ban,
filter or constraint. OpenAI's are so too as far as one can see, evaluation harnesses rely on it, and it makes the
figure of a token independent of how the tokens beside it were sampled.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from engine.sampling.candidates import Candidates, Ids, Logits, largest
from engine.sampling.scratch import Scratch

LogProbabilities = npt.NDArray[np.float64]


def top_logprobs(
    logits: Logits, token: int, count: int, scratch: Scratch | None = None
) -> tuple[float, Ids, LogProbabilities]:
    """The log-probability of ``token``, and the ids and log-probabilities of the ``count`` likeliest tokens.

    ``logits``, shape (v,), are only read, and must be as the model gave them: sampling changes them, so who wants
    log-probabilities samples from a copy. The likeliest come first; of equal ones, the smaller id. The same token
    has exactly the same figure in both places, by which evaluation harnesses tell a greedy token. ``scratch`` is
    overwritten.
    """
    candidates = Candidates(logits, Scratch(logits.size) if scratch is None else scratch)
    normaliser = candidates.peak + math.log(candidates.total)
    logprob = float(logits[token]) - normaliser
    if count == 0:
        return logprob, np.empty(0, dtype=np.intp), np.empty(0, dtype=np.float64)
    ids = np.sort(largest(logits, count))  # so that a stable sort keeps the order of equal ones
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    return logprob, ids, logits[ids].astype(np.float64) - normaliser
