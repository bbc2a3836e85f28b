"""What an embedding model is asked for, and what it answers: inputs in, one vector for each out.

A reranker is asked the same way, about pairs of texts, and answers with vectors of one number: the score.
"""

from __future__ import annotations

import msgspec

from engine.prompt import TextPrompt, TokenPrompt


class PairPrompt(msgspec.Struct, frozen=True, tag="pair"):
    """A question and a text that may answer it, for a model that scores how well it does."""

    query: str
    text: str


EmbeddingInput = TextPrompt | TokenPrompt | PairPrompt
"""Unlike in a prompt, special-token text in a ``TextPrompt`` is plain text here: documents are data."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs of one kind, all texts and tokens or all pairs."""

    inputs: tuple[EmbeddingInput, ...]
    dimensions: int | None = None
    """Cut each vector to its first numbers; None keeps all. Only for models that were trained for it."""
    param: str = "input"
    """The field of the client's request that holds the inputs, for refusals."""
    is_list: bool = False
    """Whether that field is a list, so that a refusal names the item."""
    request_id: str = ""
    """For the log, never for routing."""
    tenant: str = ""
    """Who asks, as far as the server tells people apart."""
    queue_timeout_s: float | None = None
    """Give the request up when it was not begun with by then."""


class Embeddings(msgspec.Struct, frozen=True):
    """The answer: a vector per input, in order."""

    vectors: tuple[bytes, ...]
    """Little-endian float32. Embeddings have length 1; a score is one number between 0 and 1."""
    prompt_tokens: int
    """Tokens of all inputs, those that the model wants around them included."""


class Vectors(msgspec.Struct, frozen=True, array_like=True):
    """What one engine step brought for one request."""

    request: int
    indices: list[int]
    """Which of the request's inputs, in the order of ``rows``."""
    rows: bytes
    """Their vectors one after the other, all of one length."""
