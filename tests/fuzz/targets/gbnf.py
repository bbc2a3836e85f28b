"""Grammars in llama.cpp's notation, made plain for llguidance: a grammar in Lark, or a ValueError.

What llguidance then makes of it is tried in the canary process, whose death is a refusal; not here.
"""

from __future__ import annotations

from engine.constraint.gbnf import lark_of_gbnf
from tests.fuzz.byte_source import ByteSource
from tests.fuzz.target import Target

PARTS = (
    *(
        "root",
        "::=",
        " ::= ",
        '"a"',
        '"',
        "\\",
        "\\x41",
        "\\u0041",
        "\\U0010ffff",
        "\\ud800",
        "[a-z]",
        "[^",
        "]",
    ),
    *(
        "(",
        ")",
        "*",
        "+",
        "?",
        "{2,3}",
        "{",
        "}",
        "|",
        ".",
        "#",
        "\n",
        " ",
        "rule",
        "Rule",
        "1",
        "-",
        "_",
        "\\[",
    ),
)


def check(data: bytes) -> None:
    text = ByteSource(data).text(PARTS, 200)
    try:
        plain = lark_of_gbnf(text)
    except ValueError as error:
        str(error).encode()
        return
    plain.encode()
    assert len(plain) <= 64 * len(text) + 4096, "it does not blow up"


TARGET = Target(
    "gbnf",
    "a grammar is translated in bounded space, or refused with the one error that its caller expects",
    check,
    seeds=(
        b'root ::= "a" [b-d]+ | x{2,3}\nx ::= ( "\\x41" . )* # it\n',
        bytes(range(144, 180)) * 2,
        b"root ::= " + b"(" * 150,
    ),
    words=tuple(part.encode() for part in PARTS),
)
