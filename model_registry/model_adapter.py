"""An adapter as the operator names it: for one model, which with it has an id of its own."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from engine.adapter import Adapter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_adapter_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def adapter_name(entry: str) -> str:
    """What ``NAME`` or ``NAME=PATH`` adds to the model's id: of a file in the models directory, in small letters."""
    name, equals, _ = entry.partition("=")
    return name if equals else name.lower()


class ModelAdapter(msgspec.Struct, frozen=True):
    """``adapter``, for the model of this id."""

    model: str
    adapter: Adapter

    @property
    def id(self) -> str:
        """What requests name for the model with this adapter."""
        return f"{self.model}:{self.adapter.name}"


def read_model_adapter(text: str) -> ModelAdapter:
    """``MODEL:NAME=PATH``, of which the part before ``=`` is the id. Raises ValueError."""
    model_id, equals, path = text.partition("=")
    model, colon, name = model_id.rpartition(":")
    if not (equals and colon and model and path):
        raise ValueError(f"'{text}' is not MODEL:NAME=PATH, as in smollm2:poet=poet.gguf")
    if not is_adapter_name(name):
        raise ValueError(f"'{name}' is no name for an adapter: letters, digits, '.', '_' and '-' make one")
    return ModelAdapter(model, Adapter(name, str(Path(path).expanduser().absolute())))
