from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from engine.errors import RequestTimeout
from routes.outbox import MAX_UNREAD_BYTES, Outbox


class Connection:
    """What was sent, and a gate that holds sends up while it is shut. With ``can_write``, as our own server's."""

    def __init__(self, *, can_write: bool = False) -> None:
        self.starts = 0
        self.bodies: list[bytes] = []
        self.written = 0
        self.is_over = False
        self.reads = asyncio.Event()
        self.reads.set()
        self.has_three = asyncio.Event()
        self.done = asyncio.get_running_loop().create_future()
        self.outbox = Outbox(
            {"type": "http.response.start"}, self._start, self._send, self._write if can_write else None
        )

    async def _start(self, message: Message) -> None:
        assert message == {"type": "http.response.start"}
        assert not self.bodies
        self.starts += 1

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self._note(message["body"])
        self.is_over = not message["more_body"]

    def _write(self, blob: bytes) -> bool:
        if not self.reads.is_set():
            return False
        assert blob, "an empty chunk ends the body"
        self.written += 1
        self._note(blob)
        return True

    async def stop_reading_behind(self, blob: bytes) -> None:
        self.outbox.put(blob)
        await settled()
        self.reads.clear()

    def _note(self, blob: bytes) -> None:
        assert self.starts == 1
        assert not self.is_over
        self.bodies.append(blob)
        if len(self.bodies) == 3:
            self.has_three.set()


@asynccontextmanager
async def carried(connection: Connection) -> AsyncGenerator[asyncio.Task[None]]:
    """With the task that sends; it has ended when this is left."""
    carrying = asyncio.create_task(connection.outbox.carry(connection.done))
    yield carrying
    if not connection.done.done():
        connection.done.set_result(None)
    await asyncio.wait_for(carrying, 5)
    connection.outbox.leave()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("can_write", [False, True])
async def test_what_is_put_is_sent_in_order_behind_one_start(can_write: bool) -> None:
    connection = Connection(can_write=can_write)
    assert not connection.outbox.is_open
    async with carried(connection):
        for blob in (b"a", b"b", b"c"):
            connection.outbox.put(blob)
            assert connection.outbox.is_open
            await settled()
        assert (connection.bodies, connection.is_over) == ([b"a", b"b", b"c"], False)
        connection.outbox.end(b"d")
    assert (connection.bodies, connection.is_over) == ([b"a", b"b", b"c", b"d"], True)
    assert connection.written == (2 if can_write else 0), "all behind what the start waited for"


async def test_an_empty_blob_opens_the_stream_and_sends_nothing() -> None:
    connection = Connection(can_write=True)
    async with carried(connection):
        for _ in range(2):
            connection.outbox.put(b"")
            assert connection.outbox.is_open
            await settled()
        assert (connection.starts, connection.bodies) == (1, [])


async def test_a_stream_of_nothing_has_a_start_and_an_end() -> None:
    connection = Connection()
    async with carried(connection):
        connection.outbox.end(b"")
    assert (connection.starts, connection.bodies, connection.is_over) == (1, [b""], True)


async def test_what_was_never_opened_has_no_start() -> None:
    connection = Connection()
    async with carried(connection):
        pass
    assert connection.starts == 0


async def test_what_a_client_does_not_read_waits_and_is_sent_together() -> None:
    connection = Connection(can_write=True)
    async with carried(connection):
        await connection.stop_reading_behind(b"a")
        for blob in (b"b", b"c", b"d"):
            connection.outbox.put(blob)
        await settled()
        assert connection.bodies == [b"a"]
        connection.reads.set()
        await settled()
        assert b"".join(connection.bodies) == b"abcd"
        connection.outbox.put(b"e")
        assert (connection.bodies[-1], connection.written) == (b"e", 1), "nothing is before it any more"


async def test_an_end_that_comes_while_a_send_waits_is_not_overlooked() -> None:
    connection = Connection()
    async with carried(connection):
        await connection.stop_reading_behind(b"a")
        connection.outbox.put(b"b")
        await settled()
        connection.outbox.end(b"z")
        connection.done.set_result(None)
        await settled()
        connection.reads.set()
    assert (b"".join(connection.bodies), connection.is_over) == (b"abz", True)


@pytest.mark.parametrize("can_write", [False, True])
async def test_what_waits_is_bounded_and_its_end_is_still_told(can_write: bool) -> None:
    connection = Connection(can_write=can_write)
    async with carried(connection):
        await connection.stop_reading_behind(b"a")
        blobs: list[bytes] = []

        async def flood() -> None:
            while True:
                blobs.append(b"x" * 1000)
                connection.outbox.put(blobs[-1])
                await asyncio.sleep(0)

        with pytest.raises(RequestTimeout, match="slowly"):
            await flood()
        del blobs[-1]  # which was refused
        put = len(b"".join(blobs)) + 1
        assert MAX_UNREAD_BYTES < put < MAX_UNREAD_BYTES + 3000
        connection.outbox.end(b"z")
        connection.reads.set()
    assert (len(b"".join(connection.bodies)), connection.is_over) == (put + 1, True)


async def test_whoever_reads_in_between_may_read_as_much_as_there_is() -> None:
    connection = Connection()
    async with carried(connection):
        for _ in range(40):
            connection.outbox.put(b"x" * (MAX_UNREAD_BYTES // 8))
            await settled()
    assert len(b"".join(connection.bodies)) == 5 * MAX_UNREAD_BYTES


@pytest.mark.parametrize("is_last", [False, True])
async def test_a_send_that_never_ends_is_given_up(is_last: bool) -> None:
    connection, given_up = Connection(), asyncio.Event()
    connection.outbox.watch(0.01, given_up.set)
    async with carried(connection) as carrying:
        await connection.stop_reading_behind(b"a")
        if is_last:
            connection.outbox.end(b"z")
        else:
            connection.outbox.put(b"z")
        await asyncio.wait_for(given_up.wait(), 5)
        assert not carrying.done()
        connection.reads.set()


async def test_a_stream_that_is_slow_to_be_made_is_not_given_up() -> None:
    connection, given_up = Connection(), asyncio.Event()
    connection.outbox.watch(0.001, given_up.set)
    async with carried(connection):
        connection.outbox.put(b"a")
        await asyncio.sleep(0.02)
        assert not given_up.is_set()


@pytest.mark.parametrize("can_write", [False, True])
async def test_pings_come_between_what_is_put_and_not_before_the_start_nor_behind_the_end(
    can_write: bool,
) -> None:
    connection = Connection(can_write=can_write)
    connection.outbox.ping(0.001, b"ping")
    async with carried(connection):
        await asyncio.sleep(0.01)
        assert connection.starts == 0
        connection.outbox.put(b"a")
        await asyncio.wait_for(connection.has_three.wait(), 5)
        connection.outbox.end(b"z")
        await asyncio.sleep(0.01)
    assert (connection.bodies[:3], connection.bodies[-1]) == ([b"a", b"ping", b"ping"], b"z")


async def test_no_ping_is_sent_beside_a_send_that_waits() -> None:
    connection = Connection(can_write=True)
    async with carried(connection):
        await connection.stop_reading_behind(b"a")
        connection.outbox.put(b"b")
        connection.outbox.ping(0.001, b"ping")
        await asyncio.sleep(0.01)
        connection.outbox.leave()
        connection.reads.set()
    assert connection.bodies == [b"a", b"b"]


async def test_what_sending_raises_is_raised_where_it_is_carried() -> None:
    async def fail(_: Message) -> None:
        raise OSError("gone")

    outbox = Outbox({"type": "http.response.start"}, fail, fail)
    outbox.put(b"a")
    with pytest.raises(OSError, match="gone"):
        await outbox.carry(asyncio.get_running_loop().create_future())


@given(
    acts=st.lists(st.one_of(st.binary(max_size=3), st.sampled_from(["stop", "go", "turn"])), max_size=30),
    can_write=st.booleans(),
    is_done_at_once=st.booleans(),
)
def test_however_the_client_reads_it_gets_every_byte_once_and_in_order(
    acts: list[bytes | str], can_write: bool, is_done_at_once: bool
) -> None:
    async def run() -> None:
        connection = Connection(can_write=can_write)
        async with carried(connection):
            for act in acts:
                if isinstance(act, bytes):
                    connection.outbox.put(act)
                elif act == "stop":
                    connection.reads.clear()
                elif act == "go":
                    connection.reads.set()
                else:
                    await asyncio.sleep(0)
            connection.outbox.end(b".")
            if is_done_at_once:
                connection.done.set_result(None)
                await settled()
            connection.reads.set()
        assert b"".join(connection.bodies) == b"".join(act for act in acts if isinstance(act, bytes)) + b"."
        assert (connection.starts, connection.is_over) == (1, True)

    asyncio.run(run())
