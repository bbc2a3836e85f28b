"""Stop strings: however the text comes, what is sent is what stands before the first, and never a part of one."""

from __future__ import annotations

from engine.stop_matcher import StopMatcher
from tests.fuzz.byte_source import ByteSource, cut
from tests.fuzz.target import Target

_PARTS = ("a", "b", "ab", "aab", "STOP", "ST", "OP", "\n\n", "🙂", "é")


def check(data: bytes) -> None:
    source = ByteSource(data)
    stops = tuple(filter(None, (source.text(_PARTS, 3) for _ in range(source.number(4)))))
    at = [source.number(200) for _ in range(source.number(12))]
    text = source.text(_PARTS, 200)
    matcher = StopMatcher(stops)
    sent = ""
    for piece in cut(text, sorted(min(each, len(text)) for each in at)):
        sent += matcher.add(piece)
        assert not any(stop in sent for stop in stops), "a stop string was sent"
        assert text.startswith(sent), "something else than the text was sent"
        if matcher.is_matched:
            break
    sent += matcher.flush()
    ends = [(found + len(stop), found) for stop in stops if (found := text.find(stop)) >= 0]
    assert matcher.is_matched == bool(ends)
    assert sent == (text[: min(ends)[1]] if ends else text)


TARGET = Target(
    "stop-matcher",
    "no stop string is sent, in part or whole, and nothing else is lost, however the text is cut",
    check,
    seeds=(b"\x02\x90\x91\x03abababab", bytes(range(256))),
    words=tuple(part.encode() for part in _PARTS),
)
