"""The types that llama.cpp's quantiser can make a file of, by the names that people know them by."""

from __future__ import annotations

import difflib

import msgspec

from engine.errors import InvalidRequest


class QuantizationType(msgspec.Struct, frozen=True):
    """One value of llama.cpp's ``enum llama_ftype``: a mixture of tensor types more often than a single one."""

    name: str
    number: int
    """As ``general.file_type`` in a file has it."""
    bits: float
    """Per weight, about: what llama-quantize tells of a model of 8 B parameters. Orders the types by what they keep."""
    needs_importance: bool = False
    """Whether llama.cpp refuses it without an importance matrix."""
    uses_importance: bool = True
    """Whether an importance matrix makes another file of it."""

    @property
    def is_float(self) -> bool:
        """Whether its weights are plain numbers, from which nothing has been rounded away yet."""
        return self.bits >= 16


# Numbers and sets: llama.h (enum llama_ftype), tools/quantize/quantize.cpp and src/llama-quant.cpp of the build that
# engine.native is written against. Not in the list are NVFP4 (39), which its quantiser does not make, and the types
# that were removed.
QUANTIZATION_TYPES = {
    each.name: each
    for each in (
        QuantizationType("F32", 0, 32.0, uses_importance=False),
        QuantizationType("F16", 1, 16.0, uses_importance=False),
        QuantizationType("BF16", 32, 16.0, uses_importance=False),
        QuantizationType("Q8_0", 7, 8.5, uses_importance=False),
        QuantizationType("Q6_K", 18, 6.56),
        QuantizationType("Q5_1", 9, 6.0),
        QuantizationType("Q5_K_M", 17, 5.7),
        QuantizationType("Q5_K_S", 16, 5.57),
        QuantizationType("Q5_0", 8, 5.5),
        QuantizationType("Q4_1", 3, 5.0),
        QuantizationType("Q4_K_M", 15, 4.89),
        QuantizationType("Q4_K_S", 14, 4.67),
        QuantizationType("Q4_0", 2, 4.5),
        QuantizationType("IQ4_NL", 25, 4.5),
        QuantizationType("IQ4_XS", 30, 4.25),
        QuantizationType("MXFP4_MOE", 38, 4.25, uses_importance=False),
        QuantizationType("Q3_K_L", 13, 4.3),
        QuantizationType("Q3_K_M", 12, 4.0),
        QuantizationType("Q3_K_S", 11, 3.64),
        QuantizationType("IQ3_M", 27, 3.66),
        QuantizationType("IQ3_S", 26, 3.44),
        QuantizationType("IQ3_XS", 22, 3.3, needs_importance=True),
        QuantizationType("IQ3_XXS", 23, 3.06, needs_importance=True),
        QuantizationType("Q2_K", 10, 3.16),
        QuantizationType("Q2_K_S", 21, 2.96, needs_importance=True),
        QuantizationType("IQ2_M", 29, 2.7, needs_importance=True),
        QuantizationType("IQ2_S", 28, 2.5, needs_importance=True),
        QuantizationType("IQ2_XS", 20, 2.31, needs_importance=True),
        QuantizationType("IQ2_XXS", 19, 2.06, needs_importance=True),
        QuantizationType("Q2_0", 41, 2.25),
        QuantizationType("TQ2_0", 37, 2.06),
        QuantizationType("IQ1_M", 31, 1.75, needs_importance=True),
        QuantizationType("TQ1_0", 36, 1.69),
        QuantizationType("IQ1_S", 24, 1.56, needs_importance=True),
        QuantizationType("Q1_0", 40, 1.13),
    )
}
OFFERED_TYPES = tuple(each.name for each in QUANTIZATION_TYPES.values() if not each.needs_importance)
"""Those that need nothing but the file, best kept first."""
WEIGHED_TYPES = tuple(each.name for each in QUANTIZATION_TYPES.values() if each.needs_importance)
"""Those that need an importance matrix, too."""


def quantization_type(name: str, *, param: str = "to", is_weighed: bool = False) -> QuantizationType:
    """The type of that ``name``, in any case. Raises InvalidRequest, which lists them; ``param`` is the option's name.

    ``is_weighed`` is whether there is an importance matrix: without it a type that needs one is refused, and with it
    one that makes no use of it.
    """
    found = QUANTIZATION_TYPES.get(name.strip().upper().replace("-", "_"))
    offered = ", ".join(OFFERED_TYPES)
    if found is None:
        near = difflib.get_close_matches(name.upper(), OFFERED_TYPES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InvalidRequest(
            f"'{name[:40]}' is no type of quantisation{hint}; there are {offered}", param=param
        )
    if found.needs_importance and not is_weighed:
        raise InvalidRequest(
            f"{found.name} needs an importance matrix, which tells how much each weight counts: have 'nibble quantize"
            " --imatrix' (imatrix in the API) take one that llama-imatrix has made, fetch a file of that type, or"
            f" choose of {offered}",
            param=param,
        )
    if is_weighed and not found.uses_importance:
        raise InvalidRequest(
            f"{found.name} makes no use of an importance matrix: leave it out, or choose another type",
            param="imatrix",
        )
    return found


def type_of_number(number: int) -> QuantizationType | None:
    """The type that a file means by ``general.file_type``; None for one that is not known here."""
    return next((each for each in QUANTIZATION_TYPES.values() if each.number == number), None)
