"""What a model is called that was made of another."""

from __future__ import annotations

import re

from engine.errors import InvalidRequest
from engine.quantization_type import QUANTIZATION_TYPES, QuantizationType
from model_registry.sources.directory import SPLIT_PART

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TYPE_ENDING = re.compile(rf"[-._](?:{'|'.join(QUANTIZATION_TYPES)})$", re.IGNORECASE)


def twin_name(model_id: str, to: QuantizationType) -> str:
    """The id of ``model_id`` in type ``to``: ``llama-8b-q4_k_m`` and ``llama-8b`` both make ``llama-8b-q8_0``."""
    return f"{_TYPE_ENDING.sub('', model_id)}-{to.name.lower()}"


def checked_name(name: str) -> str:
    """The stem of a file in the models directory, and with that an id. Raises InvalidRequest."""
    stem = name.removesuffix(".gguf")
    if not _NAME.fullmatch(stem) or SPLIT_PART.fullmatch(stem):
        raise InvalidRequest(
            f"'{name[:40]}' cannot be a model's name: use up to 200 letters, digits, dots, dashes and underscores",
            param="name",
        )
    return stem
