"""What the store keeps of a twin: the same model in another quantisation, which serves requests in its place."""

from __future__ import annotations

import msgspec


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What one file was found to be worth on this machine."""

    quantisation: str
    """A name of ``engine.quantization_type``; empty where the file does not say."""
    file_bytes: int
    memory_bytes: int
    """Resident memory, at its most, of a process that has used it with room for 8 requests of 1,024 tokens."""
    prefill: float
    """Tokens a second, of a prompt in chunks of 512."""
    decode_1: float
    """Tokens a second, of one sequence."""
    decode_8: float
    """The same of eight that decode together."""
    perplexity: float
    perplexity_ratio: float = 1.0
    """To the original's, on the same tokens."""
    ratio_error: float = 0.0
    """Standard error of the ratio, from the difference at each token."""


class TwinRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A twin, and what it was known to cost when it was chosen."""

    id: str
    original: Measurement
    twin: Measurement
    tokens: int
    """Tokens of the text that the perplexities are of."""
    text_sha256: str
    build: str
    """Version of llama-cpp-python."""
    threads: int
    measured_at: int
    """Unix seconds."""
