"""How well a model foretells a text: the log-probability of each of its tokens, and the perplexity they make.

The text's tokens x are cut into windows of at most ``WINDOW`` tokens, the last one shorter. Of each window every token
but the first is scored, given those of the window before it (and the model's beginning token at the front, where it
wants one):

    PPL = exp(-1/N * sum over the N scored tokens of log p(x_i | x_w ... x_(i-1)))

with x_w the window's first token and p the softmax of the model's logits, at temperature 1. It is the perplexity of
fixed-length windows (huggingface.co/docs/transformers/perplexity), and lower than what ``llama-perplexity`` tells
for small windows, which scores the second half of each alone. Figures compare only on the same tokens: two models of
one vocabulary. Tokens are computed in the same steps each time, so that the same file, build and number of threads
give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engine.backend import Backend, Tokens
from engine.sampling.logprobs import top_logprobs
from engine.sampling.scratch import Scratch

WINDOW = 1024
"""Tokens: enough that the few without context at a window's beginning hardly count."""
_STEP_TOKENS = 64
"""Tokens of a step: a context has rows of logits for so many (engine.native.context)."""
LogProbabilities = npt.NDArray[np.float64]


def score_text(
    backend: Backend,
    tokens: Tokens,
    *,
    beginning: int | None,
    window: int = WINDOW,
    progress: Callable[[int, int], None] = lambda done, whole: None,
) -> LogProbabilities:
    """Log-probabilities of the scored ones of ``tokens``, shape (n,). Raises DecodeFailed.

    ``beginning`` is the model's beginning token, None where it wants none. ``window`` is bounded by what a slot holds.
    Overwrites slot 0. ``progress`` is told of tokens.
    """
    prefix = [] if beginning is None else [beginning]
    window = min(window, backend.slot_tokens - len(prefix))
    scratch = Scratch(backend.vocabulary_size)
    scores: list[float] = []
    for start in range(0, len(tokens), window):
        part = np.concatenate((np.array(prefix, dtype=np.int32), tokens[start : start + window]))
        scores += _score_window(backend, part, len(prefix) + 1, scratch)
        progress(min(start + window, len(tokens)), len(tokens))
    backend.clear_slot(0)
    return np.array(scores, dtype=np.float64)


def perplexity(scores: LogProbabilities) -> float:
    """Of the texts whose tokens have these log-probabilities, shape (n,); 1 is foretold without any doubt."""
    return float(np.exp(-scores.mean()))


def perplexity_ratio(original: LogProbabilities, other: LogProbabilities) -> tuple[float, float]:
    """How many times the ``original``'s perplexity the ``other``'s is, and the standard error of that.

    Both shapes (n,), of the same tokens. What makes a token hard is the same for both, so the error is that of the
    mean of the differences, d = log p - log q, carried through the exponential: exp(mean d) * std(d) / sqrt(n).
    """
    differences = original - other
    ratio = float(np.exp(differences.mean()))
    return ratio, ratio * float(differences.std() / np.sqrt(len(differences)))


def _score_window(backend: Backend, part: Tokens, first: int, scratch: Scratch) -> list[float]:
    """Log-probabilities of ``part`` from index ``first`` on."""
    backend.clear_slot(0)
    batch, scores = backend.batch, []
    # Nothing is asked of the last token, which foretells what is not there.
    step = min(_STEP_TOKENS, backend.batch_tokens, backend.output_rows)
    for start in range(0, len(part) - 1, step):
        end = min(start + step, len(part) - 1)
        count = end - start
        batch.token[:count] = part[start:end]
        batch.position[:count] = np.arange(start, end)
        batch.slot[:count] = 0
        batch.wants_logits[:count] = 1
        for at, row in enumerate(backend.decode(count, count), start + 1):
            if at >= first:
                scores.append(top_logprobs(row, int(part[at]), 0, scratch)[0])
    return scores
