"""The short form of ``make soak``: each part with real servers and workers of tiny models, and small counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.memory_group import MemoryGroup
from tests.soak.aborts import soak_aborts
from tests.soak.client import Told, read_answer
from tests.soak.drain import soak_drain
from tests.soak.finding import Finding
from tests.soak.kills import soak_kills
from tests.soak.memory_line import MemoryLine
from tests.soak.refusals import soak_refusals
from tests.soak.sockets import soak_sockets
from tests.soak.stops import soak_memory, soak_oom
from tests.soak.streams import soak_streams

PARTS: dict[str, Callable[[Path], Finding]] = {
    "streams": lambda home: soak_streams(home, count=100),
    "refusals": lambda home: soak_refusals(home, count=20),
    "aborts": lambda home: soak_aborts(home, count=100),
    "kills": lambda home: soak_kills(home, count=2, with_breaker=False),
    "drain": lambda home: soak_drain(home, count=20),
    "sockets": lambda home: soak_sockets(home, count=60),
    "memory": lambda home: soak_memory(home, count=1),
}


@pytest.mark.model
@pytest.mark.parametrize("name", PARTS)
def test_all_is_as_promised(tmp_path: Path, name: str) -> None:
    found = PARTS[name](tmp_path / "home")
    assert not found.faults, str(found)
    assert found.figures


@pytest.mark.model
@pytest.mark.skipif(bool(MemoryGroup.hindrance()), reason=MemoryGroup.hindrance())
def test_who_the_kernel_ends_for_want_of_memory_is_told_of_and_replaced(tmp_path: Path) -> None:
    found = soak_oom(tmp_path / "home", count=1)
    assert not found.faults, str(found)


def test_a_stream_is_read_as_far_as_it_came() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    events = (
        b'data: {"choices":[{"text":"ab","finish_reason":null}]}\n\n',
        b'data: {"error":{"code":"worker_died"}}\n\n',
    )
    whole = head + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    told = Told(0.0)
    read_answer(told, whole + b"0\r\n\r\n")
    assert (told.status, told.text, told.error, told.is_done) == (200, "ab", "worker_died", False)
    for end in range(len(whole)):
        cut = Told(0.0)
        read_answer(cut, whole[:end])
        assert cut.text in ("", "ab")


def test_a_line_through_memory_shows_a_leak() -> None:
    line = MemoryLine([])
    for requests in range(0, 1000, 100):
        line._requests.append(requests)
        line._bytes.append([100_000 + 300 * requests, 5_000_000])
    leaking, level = line.bytes_per_request()
    assert abs(leaking - 300) < 1
    assert abs(level) < 1
