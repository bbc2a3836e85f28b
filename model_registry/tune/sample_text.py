"""The text that perplexities are measured on where the user has none of his own."""

from __future__ import annotations

from importlib import resources

from engine.errors import InvalidRequest

_MOST_CHARACTERS = 4 << 20


def sample_text() -> str:
    """Some 2,400 words of plain English prose, written for this: no model has been trained on it."""
    return (resources.files("model_registry.tune") / "sample.txt").read_text("utf-8")


def checked_text(raw: bytes, name: str) -> str:
    """A text of the user's. Raises InvalidRequest for one that is no UTF-8, or so long that it would take hours."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{name} is no UTF-8 text (byte {error.start}): convert it, or name another file", param="text"
        ) from None
    if len(text) > _MOST_CHARACTERS:
        raise InvalidRequest(
            f"{name} has {len(text):,} characters, which would take hours to read with each type: give a part of it,"
            f" {_MOST_CHARACTERS:,} at most",
            param="text",
        )
    return text
