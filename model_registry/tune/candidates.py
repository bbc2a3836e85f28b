"""Which types a model is worth trying in. Pure."""

from __future__ import annotations

from engine.quantization_type import QUANTIZATION_TYPES, QuantizationType

_ALWAYS = ("Q8_0", "Q4_K_M", "Q4_0", "IQ4_NL")
"""Q4_0, IQ4_NL and Q8_0 have repacked kernels on most processors, which is what makes twins faster; Q4_K_M is what
most files are."""
_OF_MORE_BITS = ("Q6_K", "Q5_K_M")
_ENOUGH_BITS = 8.0


def candidate_types(source: QuantizationType | None) -> tuple[QuantizationType, ...]:
    """Of a file of type ``source``, None for one that does not say; most bits first, its own left out.

    From a file of 8 bits and more the types between are worth a look; where it was rounded to fewer already, they would
    take more memory than it without giving back what is lost, as Q8_0 does, which at least is fast.
    """
    names = (*_ALWAYS, *_OF_MORE_BITS) if source and source.bits >= _ENOUGH_BITS else _ALWAYS
    found = (QUANTIZATION_TYPES[name] for name in names)
    return tuple(sorted((each for each in found if each != source), key=lambda each: -each.bits))
