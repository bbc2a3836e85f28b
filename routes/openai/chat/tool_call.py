"""Tool calls as chat completions tell them: whole, and in the parts of a stream."""

from __future__ import annotations

from typing import Literal

import msgspec


class WireFunction(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class WireToolCall(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: Literal["function"] = "function"
    function: WireFunction


class FunctionPart(msgspec.Struct, frozen=True):
    """``name`` comes once, since clients join what they get."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET


class ToolCallPart(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` and ``type`` come once, with the name."""

    index: int
    id: str | msgspec.UnsetType = msgspec.UNSET
    type: Literal["function"] | msgspec.UnsetType = msgspec.UNSET
    function: FunctionPart
