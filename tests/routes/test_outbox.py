from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from routes.outbox import Outbox


class Connection:
    """What was sent, and a gate that holds the sends up while it is shut."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message: Message) -> None:
        assert message["more_body"]
        await self.reads.wait()
        self.bodies.append(message["body"])


async def test_what_is_put_is_sent_in_order_and_the_first_waits_for_the_connection() -> None:
    outbox, connection = Outbox(), Connection()

    async def fill() -> None:
        for blob in (b"a", b"b", b"c"):
            await outbox.put(blob)
        outbox.close()

    filling = asyncio.create_task(fill())
    await asyncio.sleep(0)
    assert outbox.opened.done()
    assert connection.bodies == []
    await outbox.connect(connection.send, patience_s=60)
    await filling
    assert connection.bodies == [b"a", b"b", b"c"]


async def test_an_empty_blob_opens_the_stream_and_sends_nothing() -> None:
    outbox, connection = Outbox(), Connection()
    assert not outbox.opened.done()
    await outbox.put(b"")
    assert outbox.opened.done()
    outbox.close()
    outbox.close()
    await outbox.connect(connection.send, patience_s=60)
    assert connection.bodies == []


async def test_whoever_puts_waits_for_a_client_that_does_not_read() -> None:
    outbox, connection = Outbox(), Connection()
    connection.reads.clear()
    await outbox.put(b"first")
    connecting = asyncio.create_task(outbox.connect(connection.send, patience_s=60))
    putting = asyncio.create_task(outbox.put(b"second"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not putting.done()
    connection.reads.set()
    await putting
    outbox.close()
    await connecting
    assert connection.bodies == [b"first", b"second"]


async def test_one_who_gave_up_putting_does_not_cut_the_connection() -> None:
    outbox, connection = Outbox(), Connection()
    await outbox.put(b"")
    putting = asyncio.create_task(outbox.put(b"never"))
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.wait({putting})
    connecting = asyncio.create_task(outbox.connect(connection.send, patience_s=60))
    await outbox.put(b"error")
    outbox.close()
    await connecting
    assert connection.bodies == [b"error"]


@pytest.mark.parametrize("at_first", [True, False])
async def test_a_send_that_never_ends_is_given_up(at_first: bool) -> None:
    outbox, connection = Outbox(), Connection()
    await outbox.put(b"first" if at_first else b"")
    connection.reads.clear()
    connecting = asyncio.create_task(outbox.connect(connection.send, patience_s=0.01))
    putting = asyncio.create_task(outbox.put(b"second"))
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await connecting
    putting.cancel()
    await asyncio.wait({putting})


async def test_a_stream_that_is_slow_to_be_made_is_not_given_up() -> None:
    outbox, connection = Outbox(), Connection()
    await outbox.put(b"first")
    connecting = asyncio.create_task(outbox.connect(connection.send, patience_s=0.001))
    done, _ = await asyncio.wait({connecting}, timeout=0.02)
    assert not done
    outbox.close()
    await connecting
