"""Constraints of all kinds through the real compiler, its canary process and llguidance: an answer, or a refusal.

A grammar that ends the canary is refused; one that would end this process, and so a worker, ends the campaign.
"""

from __future__ import annotations

import numpy as np

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import ConstraintSpec, Gbnf, JsonSchema, Lark, Regex
from engine.errors import InvalidRequest
from tests.engine.constraint.walk import SpecialByteVocabulary
from tests.fuzz.byte_source import ByteSource
from tests.fuzz.target import Target, check_refusal
from tests.fuzz.targets import gbnf, schema_check

_LARK = (
    *(
        "start",
        ": ",
        '"a"',
        "/[a-z]+/",
        "\n",
        "|",
        "(",
        ")",
        "*",
        "+",
        "{2,9}",
        "%json {}",
        "%regex {}",
        "NAME",
    ),
    *(
        '%json {"type": "object"}',
        "[lazy]",
        "[capture]",
        "<[1-9]>",
        "<|x|>",
        "%ignore ",
        "%import ",
        "&",
        "~",
    ),
)
_REGEX = (
    *("a", "[a-z]", "[^", "]", "(", ")", "(?i)", "(?:", "{1,9}", "{999}", "*", "+", "?", "|", "\\", "\\pL"),
    *("\\b", "^", "$", ".", "&", "~", "\\x{10ffff}", "(?=", "\\1"),
)
_STEPS = 6
_vocabulary = SpecialByteVocabulary()
_compilers: list[ConstraintCompiler] = []


def _spec(source: ByteSource) -> ConstraintSpec:
    match source.number(3):
        case 0:
            return JsonSchema(schema_check.schema_text(source))
        case 1:
            return Regex(source.text(_REGEX, 40))
        case 2:
            return Lark("start: " + source.text(_LARK, 60))
        case _:
            return Gbnf("root ::= " + source.text(gbnf.PARTS, 60))


def check(data: bytes) -> None:
    if not _compilers:
        _compilers.append(ConstraintCompiler(_vocabulary))
    source = ByteSource(data)
    choices = ByteSource(data[::-1])
    try:
        constraint = _compilers[0].compile(_spec(source))
        for _ in range(_STEPS):
            if constraint.is_complete:
                break
            constraint.start_mask()
            constraint.accept(constraint.forced())
            logits = np.zeros(_vocabulary.size, dtype=np.float32)
            constraint.apply(logits)
            constraint.accept([int(choices.choice(np.flatnonzero(logits == 0).tolist()))])
    except InvalidRequest as error:
        check_refusal(error)


TARGET = Target(
    "grammar",
    "a constraint compiles, or is refused with a typed error, and the process that compiles lives on",
    check,
    seeds=(
        b"\x00" + bytes(range(1, 90)),
        b"\x01" + bytes(range(144, 170)),
        b"\x02\x91\x92\x93\x94\x95" + bytes(range(144, 175)),
        b"\x03" + bytes(range(144, 180)),
    ),
    words=tuple(bytes([144 + number]) for number in range(40)),
)
