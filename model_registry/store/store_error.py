"""The store cannot be read or written, or what it is asked to keep contradicts what it has."""

from __future__ import annotations


class StoreError(Exception):
    """The message names the mend."""


class NameRefused(StoreError):
    """An alias that cannot be one, or is another model's."""
