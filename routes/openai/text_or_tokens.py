"""The four shapes in which OpenAI takes texts: one or several, as text or as token ids."""

from __future__ import annotations


def shape(value: object) -> str:
    """Which of the four ``value`` has; by its first item, so that one wrong item is named as such."""
    if not isinstance(value, list):
        return "text"
    match value[:1]:
        case [list()]:
            return "token_lists"
        case [int()]:
            return "tokens"
        case _:
            return "texts"
