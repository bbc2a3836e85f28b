"""Bytes of tokens to text: as a decoder that sees them all at once."""

from __future__ import annotations

from engine.detokenizer import Detokenizer
from tests.fuzz.byte_source import ByteSource, cut_bytes
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    source = ByteSource(data)
    at = [source.number(255) for _ in range(source.number(16))]
    raw = source.rest()
    pieces = cut_bytes(raw, sorted(min(each, len(raw)) for each in at))
    reader = Detokenizer(pieces.__getitem__)
    text = ""
    for token in range(len(pieces)):
        text += reader.add(token)
    text.encode()
    whole = raw.decode("utf-8", "replace")
    assert whole.startswith(text)
    assert len(whole) - len(text) <= 3, "no more than one unfinished character is held"


TARGET = Target(
    "detokenizer",
    "any bytes give the text that a decoder gives, but for an unfinished character at the end",
    check,
    seeds=("\x05\x01\x02\x03\x04\x05é🙂ü漢字".encode(), b"\x02\x01\x02\xf0\x9f\x99\xff\xc3"),
    words=(b"\xf0\x9f\x99\x82", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"),
)
