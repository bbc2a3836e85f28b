"""Vectors to OpenAI's list of embeddings."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from typing import Literal

import msgspec

from engine.embedding import Embeddings
from model_registry.card import ModelCard
from routes.openai.embeddings.body import EmbeddingBody


class EmbeddingObject(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian float32."""
    object: Literal["embedding"] = "embedding"


class PromptUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[EmbeddingObject, ...]
    model: str
    usage: PromptUsage


def render(told: Embeddings, body: EmbeddingBody, card: ModelCard) -> bytes:
    form = _base64 if body.encoding_format == "base64" else _numbers
    return msgspec.json.encode(
        EmbeddingList(
            data=tuple(EmbeddingObject(index, form(row)) for index, row in enumerate(told.vectors)),
            model=card.id,
            usage=PromptUsage(told.prompt_tokens, told.prompt_tokens),
        )
    )


def _base64(row: bytes) -> str:
    return b64encode(row).decode("ascii")


def _numbers(row: bytes) -> list[float]:
    return numbers_of(row).tolist()


def numbers_of(row: bytes) -> array[float]:
    """The float32 numbers in little-endian ``row``."""
    numbers = array("f", row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
