"""A quantisation or a measurement was ended because somebody wanted that."""

from __future__ import annotations


class QuantizationCancelled(Exception):
    """Nothing of it is left."""
