"""Answers about a model, in the shapes of llama.cpp's server."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec

from engine.config import ModelFacts
from engine.errors import InternalError
from engine.question import Answer, Description, Text, Tokenized
from engine.sampling.params import SamplingParams
from model_registry.card import ModelCard
from routes.llama_cpp.bodies import ApplyTemplateBody, DetokenizeBody, TokenizeBody


class Piece(msgspec.Struct, frozen=True):
    id: int
    piece: str | list[int]
    """Its text, or its bytes where they are no whole characters."""


class Tokens(msgspec.Struct, frozen=True):
    tokens: tuple[int | Piece, ...]


class Content(msgspec.Struct, frozen=True):
    content: str


class Prompt(msgspec.Struct, frozen=True):
    prompt: str


class GenerationSettings(msgspec.Struct, frozen=True):
    n_ctx: int
    """Tokens that one request may use."""
    params: dict[str, Any]
    """The sampling parameters and their defaults, the model's own among them."""


class Modalities(msgspec.Struct, frozen=True):
    vision: bool = False
    audio: bool = False


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    default_generation_settings: GenerationSettings
    total_slots: int
    model_alias: str
    model_path: str
    """The file's name: its place is nobody's business."""
    modalities: Modalities = Modalities()
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str


def render_tokens(told: Answer, body: TokenizeBody, card: ModelCard) -> bytes:
    if not isinstance(told, Tokenized):
        raise InternalError("a text was tokenised to something else")
    if not body.with_pieces:
        return msgspec.json.encode(Tokens(told.tokens))
    pairs = zip(told.tokens, told.pieces, strict=True)
    return msgspec.json.encode(Tokens(tuple(Piece(token, _spelt(piece)) for token, piece in pairs)))


def _spelt(piece: bytes) -> str | list[int]:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return list(piece)


def render_content(told: Answer, body: DetokenizeBody, card: ModelCard) -> bytes:
    return msgspec.json.encode(Content(_text(told)))


def render_prompt(told: Answer, body: ApplyTemplateBody, card: ModelCard) -> bytes:
    return msgspec.json.encode(Prompt(_text(told)))


def _text(told: Answer) -> str:
    if not isinstance(told, Text):
        raise InternalError("what was asked for as text is none")
    return told.text


def render_properties(told: Answer, card: ModelCard, facts: ModelFacts) -> bytes:
    if not isinstance(told, Description):
        raise InternalError("a model was described by something else")
    defaults = card.sampling.in_place_of(SamplingParams(), frozenset())
    params = {name: getattr(defaults, name) for name in defaults.__struct_fields__}
    return msgspec.json.encode(
        Properties(
            default_generation_settings=GenerationSettings(facts.context, params),
            total_slots=facts.parallel,
            model_alias=card.id,
            model_path=PurePath(card.path).name,
            chat_template=told.chat_template or "",
            bos_token=told.beginning,
            eos_token=told.end,
            build_info=facts.build,
        )
    )
