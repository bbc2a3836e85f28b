"""Embedding body to what the engine is asked."""

from __future__ import annotations

from engine.embedding import EmbeddingInput, EmbeddingRequest
from engine.prompt import TextPrompt, TokenPrompt
from routes.openai.embeddings.body import EmbeddingBody


def parse(body: EmbeddingBody, request_id: str) -> EmbeddingRequest:
    inputs, is_list = _inputs(body.input)
    return EmbeddingRequest(inputs=inputs, dimensions=body.dimensions, is_list=is_list, request_id=request_id)


def _inputs(given: str | list[str] | list[int] | list[list[int]]) -> tuple[tuple[EmbeddingInput, ...], bool]:
    """The inputs, and whether they were given as a list of inputs."""
    if isinstance(given, str):
        return (TextPrompt(given),), False
    texts = tuple(TextPrompt(item) for item in given if isinstance(item, str))
    token_lists = tuple(TokenPrompt(tuple(item)) for item in given if isinstance(item, list))
    if inputs := texts or token_lists:
        return inputs, True
    # Where neither texts nor lists are inside, it is one list of tokens.
    return (TokenPrompt(tuple(item for item in given if isinstance(item, int))),), False
