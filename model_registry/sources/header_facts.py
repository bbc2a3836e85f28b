"""What the headers of a model's files say of it, in the words of the store. Pure: it believes nothing that it is told.

A worker that loads the file finds out the same, since llama.cpp reads it in the same place: ``tests/model_registry``
compares the two. So nothing has to be loaded, and no load has to be recorded, for a model to be known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

import msgspec

from engine.config import Capability
from engine.quantization_type import type_of_number
from model_registry.sources.gguf_layout import GgufLayout

_MOST_CHARACTERS = 80
"""Of a text: the longest names of licences and architectures have half as many."""
_MOST_TOKENS = 2**31 - 1
_MOST_PARAMETERS = 10**15
"""Hundreds of times what the largest models have; more is a lie, and more than JSON's readers count to."""
_POOLED: dict[int, Capability] = {1: "embedding", 2: "embedding", 3: "embedding", 4: "rerank"}
"""By llama.cpp's enum llama_pooling_type."""
_ENCODERS = frozenset({"t5encoder"})
"""Architectures that generate nothing, whatever their file says (llama_model_has_decoder)."""
TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
"""Of the types that tensors have, by ggml's number (ggml.h, enum ggml_type)."""


class HeaderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All parts of a split model together. What is empty or 0 the file does not say, or says as no model would."""

    architecture: str = ""
    parameters: int = 0
    quantisation: str = ""
    """As ``nibble quantize --to`` has it; of a file that does not say, the type that most bytes of its weights have."""
    context: int = 0
    """Tokens that the model was trained for."""
    licence: str = ""
    template_sha256: str = ""
    """Of its chat template, in hex; empty where it has none."""
    capabilities: tuple[Capability, ...] = ()
    """What it can be asked for where nothing is set for it."""


class PartFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one file adds to the facts: all of them, or of a later part of a split model its weights alone."""

    told: HeaderFacts
    """``quantisation`` is empty where the file does not say."""
    type_bytes: dict[int, int]
    """Bytes of weights of each type of tensor."""


def part_facts(layout: GgufLayout) -> PartFacts:
    """What a file's header says. Whatever that is, it raises nothing, and the answer is small."""
    architecture = _text(layout, "general.architecture")
    return PartFacts(
        told=HeaderFacts(
            architecture=architecture,
            parameters=_checked(sum(map(prod, layout.shapes.values())), _MOST_PARAMETERS),
            quantisation=_file_type(layout),
            context=_number(layout, f"{architecture}.context_length", _MOST_TOKENS),
            licence=_licence(layout),
            template_sha256=layout.template_sha256,
            capabilities=_capabilities(layout, architecture),
        ),
        type_bytes={kind: layout.type_bytes[kind] for kind in layout.type_bytes if kind in TYPE_NAMES},
    )


def header_facts(parts: Sequence[PartFacts]) -> HeaderFacts:
    """All ``parts`` of a model, of which there is at least one, as one. The metadata are in the first."""
    first = parts[0].told
    whole: Counter[int] = Counter()
    for part in parts:
        whole.update(part.type_bytes)
    commonest = max(whole, key=lambda kind: whole[kind], default=None)
    return msgspec.structs.replace(
        first,
        parameters=_checked(sum(part.told.parameters for part in parts), _MOST_PARAMETERS),
        quantisation=first.quantisation or ("" if commonest is None else TYPE_NAMES[commonest]),
    )


def _capabilities(layout: GgufLayout, architecture: str) -> tuple[Capability, ...]:
    """By the rules of ``engine.embedding_loader`` and ``engine.loader``."""
    pooled = _POOLED.get(_number(layout, f"{architecture}.pooling_type", max(_POOLED)))
    if pooled is not None:
        return (pooled,)
    if layout.numbers.get(f"{architecture}.attention.causal") is False or architecture in _ENCODERS:
        return ("embedding",)
    return ("chat", "completion", "tools") if layout.has_template else ("completion",)


def _file_type(layout: GgufLayout) -> str:
    number = _whole(layout, "general.file_type")
    known = None if number is None else type_of_number(number)  # 0 is a type as well
    return known.name if known else ""


def _licence(layout: GgufLayout) -> str:
    """Its name, where the word for it says no more than that it is another."""
    word = _text(layout, "general.license")
    return (_text(layout, "general.license.name") or word) if word in ("", "other") else word


def _text(layout: GgufLayout, key: str) -> str:
    """Fit to be printed: what moves a terminal's cursor, or writes backwards, is left out."""
    text = layout.texts.get(key, "")
    return "".join(each for each in text if each.isprintable())[:_MOST_CHARACTERS].strip()


def _number(layout: GgufLayout, key: str, most: int) -> int:
    return _checked(_whole(layout, key) or 0, most)


def _whole(layout: GgufLayout, key: str) -> int | None:
    value = layout.numbers.get(key)
    # A truth value is an int to Python, and no number here.
    return value if type(value) is int else None


def _checked(value: int, most: int) -> int:
    """0 for what no model has."""
    return value if 0 <= value <= most else 0
