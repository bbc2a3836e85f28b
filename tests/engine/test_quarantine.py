"""Which requests are held to have ended a worker, and which a third one is spared."""

from __future__ import annotations

import msgspec
import pytest

from engine.constraint.spec import Regex
from engine.embedding import EmbeddingRequest
from engine.errors import RequestQuarantined
from engine.event_stream import EventStream
from engine.exchange import Body, Exchange, Standing
from engine.prompt import TextPrompt
from engine.quarantine import _MOST_DIGESTS, Quarantine, digest_of, suspects
from engine.question import Describe, Tokenize
from engine.request import EngineRequest


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def asking(text: str, tenant: str = "") -> EngineRequest:
    return EngineRequest(prompts=(TextPrompt(text),), tenant=tenant)


def is_held(quarantine: Quarantine, body: Body) -> bool:
    try:
        quarantine.check(body)
    except RequestQuarantined:
        return True
    return False


def test_two_deaths_are_too_many_and_one_is_not() -> None:
    quarantine = Quarantine(Clock())
    assert quarantine.suspect([asking("a"), asking("b")]) == 0
    assert not is_held(quarantine, asking("a"))
    assert quarantine.suspect([asking("a")]) == 1
    assert is_held(quarantine, asking("a"))
    assert not is_held(quarantine, asking("b"))
    assert not is_held(quarantine, asking("c"))


def test_an_answer_clears_a_request() -> None:
    quarantine = Quarantine(Clock())
    quarantine.suspect([asking("a")])
    quarantine.clear(asking("a"))
    quarantine.suspect([asking("a")])
    assert not is_held(quarantine, asking("a"))


def test_what_was_long_ago_is_forgotten() -> None:
    clock = Clock()
    quarantine = Quarantine(clock)
    for _ in range(2):
        quarantine.suspect([asking("a")])
    clock.now_s = 3599.0
    assert is_held(quarantine, asking("a"))
    clock.now_s = 3601.0
    assert not is_held(quarantine, asking("a"))


def test_memory_is_bounded() -> None:
    quarantine = Quarantine(Clock())
    quarantine.suspect([asking("first")] * 2)
    quarantine.suspect(asking(str(number)) for number in range(_MOST_DIGESTS))
    assert not is_held(quarantine, asking("first"))
    assert len(quarantine._deaths) == _MOST_DIGESTS


def test_the_same_is_known_again_whoever_numbers_it() -> None:
    one = asking("a", "alice")
    same = msgspec.structs.replace(one, request_id="req_2", priority=5, queue_timeout_s=1.5)
    assert digest_of(one) == digest_of(same)
    vectors = EmbeddingRequest(inputs=(TextPrompt("a"),), tenant="alice")
    renamed = msgspec.structs.replace(vectors, request_id="req_2", queue_timeout_s=1.5)
    assert digest_of(vectors) == digest_of(renamed)
    others = (
        asking("a", "bob"),
        asking("b", "alice"),
        msgspec.structs.replace(one, n=2),
        Tokenize("a"),
        vectors,
    )
    assert len({digest_of(body) for body in (one, *others)}) == 6


def exchange(body: Body, standing: Standing = Standing.SENT, *, is_over: bool = False) -> Exchange:
    stream = EventStream(1, lambda _: None)
    stream.choices_left -= is_over
    return Exchange(body, stream, standing)


async def test_what_was_begun_is_suspect_and_what_waited_is_not() -> None:
    begun, waiting, over = asking("begun"), asking("waiting"), asking("over")
    found = suspects(
        [
            exchange(begun, Standing.BEGUN),
            exchange(waiting, Standing.READ),
            exchange(over, Standing.BEGUN, is_over=True),
        ]
    )
    assert found == [begun]


async def test_of_what_is_still_to_be_read_the_first_of_each_thread_is_suspect() -> None:
    constrained = [
        msgspec.structs.replace(asking(f"constrained {n}"), constraint=Regex("a")) for n in range(2)
    ]
    plain = [asking(f"plain {n}") for n in range(2)]
    bodies: list[Body] = [Describe(), constrained[0], plain[0], plain[1], constrained[1], Tokenize("a")]
    assert suspects(map(exchange, bodies)) == [constrained[0], plain[0]]


def test_what_cannot_be_encoded_is_not_taken_for_anything() -> None:
    quarantine = Quarantine(Clock())
    quarantine.suspect([asking("a")])
    with pytest.raises(UnicodeEncodeError):
        quarantine.check(asking("\ud800"))
