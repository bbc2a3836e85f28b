"""A model cannot be fetched."""

from __future__ import annotations


class PullError(Exception):
    """The message names the mend."""


class PullCancelled(PullError):
    """Somebody has ended it. What is here by then is continued by the next."""
