from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from routes.outbox import Outbox


class Connection:
    """What was sent, and a gate that holds the sends of bodies up while it is shut."""

    def __init__(self) -> None:
        self.starts = 0
        self.bodies: list[bytes] = []
        self.is_over = False
        self.reads = asyncio.Event()
        self.reads.set()
        self.has_three = asyncio.Event()
        self.outbox = Outbox({"type": "http.response.start"}, self._start, self._send)

    async def _start(self, message: Message) -> None:
        assert message == {"type": "http.response.start"}
        assert not self.bodies
        self.starts += 1

    async def _send(self, message: Message) -> None:
        assert self.starts == 1
        assert not self.is_over
        await self.reads.wait()
        self.bodies.append(message["body"])
        self.is_over = not message["more_body"]
        if len(self.bodies) == 3:
            self.has_three.set()


async def test_what_is_put_is_sent_in_order_behind_one_start() -> None:
    connection = Connection()
    assert not connection.outbox.is_open
    for blob in (b"a", b"b", b"c"):
        await connection.outbox.put(blob)
    assert (connection.bodies, connection.is_over) == ([b"a", b"b", b"c"], False)
    await connection.outbox.end(b"d")
    assert (connection.bodies, connection.is_over) == ([b"a", b"b", b"c", b"d"], True)


async def test_an_empty_blob_opens_the_stream_and_sends_nothing() -> None:
    connection = Connection()
    await connection.outbox.put(b"")
    assert connection.outbox.is_open
    assert (connection.starts, connection.bodies) == (1, [])


async def test_a_stream_of_nothing_has_a_start_and_an_end() -> None:
    connection = Connection()
    await connection.outbox.end(b"")
    assert (connection.starts, connection.bodies, connection.is_over) == (1, [b""], True)


async def test_whoever_puts_waits_for_a_client_that_does_not_read() -> None:
    connection = Connection()
    connection.reads.clear()
    putting = asyncio.create_task(connection.outbox.put(b"a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not putting.done()
    connection.reads.set()
    await putting
    assert connection.bodies == [b"a"]


@pytest.mark.parametrize("send", [Outbox.put, Outbox.end])
async def test_a_send_that_never_ends_is_given_up(send: Callable[[Outbox, bytes], Awaitable[None]]) -> None:
    connection, given_up = Connection(), asyncio.Event()
    connection.outbox.watch(0.01, given_up.set)
    await connection.outbox.put(b"a")
    connection.reads.clear()
    sending = asyncio.ensure_future(send(connection.outbox, b"z"))
    await asyncio.wait_for(given_up.wait(), 5)
    sending.cancel()
    await asyncio.wait({sending})
    connection.outbox.leave()


async def test_a_stream_that_is_slow_to_be_made_is_not_given_up() -> None:
    connection, given_up = Connection(), asyncio.Event()
    connection.outbox.watch(0.001, given_up.set)
    await connection.outbox.put(b"a")
    await asyncio.sleep(0.02)
    assert not given_up.is_set()
    connection.outbox.leave()


async def test_pings_come_between_what_is_put_and_not_before_the_start_nor_behind_the_end() -> None:
    connection = Connection()
    connection.outbox.ping(0.001, b"ping")
    await asyncio.sleep(0.01)
    assert connection.starts == 0
    await connection.outbox.put(b"a")
    await asyncio.wait_for(connection.has_three.wait(), 5)
    await connection.outbox.end(b"z")
    await asyncio.sleep(0.01)
    assert (connection.bodies[:3], connection.bodies[-1]) == ([b"a", b"ping", b"ping"], b"z")


async def test_no_ping_is_sent_beside_a_send_that_waits() -> None:
    connection = Connection()
    await connection.outbox.put(b"a")
    connection.reads.clear()
    putting = asyncio.create_task(connection.outbox.put(b"b"))
    connection.outbox.ping(0.001, b"ping")
    await asyncio.sleep(0.01)
    connection.reads.set()
    await putting
    assert connection.bodies == [b"a", b"b"]
    connection.outbox.leave()


async def test_a_ping_that_waits_is_dropped_at_the_end() -> None:
    connection = Connection()
    await connection.outbox.put(b"a")
    connection.reads.clear()
    connection.outbox.ping(0.001, b"ping")
    await asyncio.sleep(0.01)
    ending = asyncio.create_task(connection.outbox.end(b"z"))
    await asyncio.sleep(0)
    connection.reads.set()
    await ending
    assert connection.bodies == [b"a", b"z"]
