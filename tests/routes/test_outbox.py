from __future__ import annotations

import asyncio

import pytest

from routes.http_errors import ReaderTooSlow
from routes.outbox import Outbox


async def test_what_waits_is_sent_at_once() -> None:
    outbox = Outbox(100)
    outbox.put(b"a")
    outbox.put(b"b")
    outbox.close(b"c")
    assert [blob async for blob in outbox] == [b"abc"]


async def test_an_empty_blob_opens_the_stream_and_sends_nothing() -> None:
    outbox = Outbox(100)
    assert not outbox.opened.done()
    outbox.put(b"")
    assert outbox.opened.done()
    outbox.close()
    assert [blob async for blob in outbox] == []


async def test_a_reader_that_came_first_is_woken() -> None:
    outbox = Outbox(100)
    reader = asyncio.ensure_future(anext(outbox))
    await asyncio.sleep(0)
    outbox.put(b"a")
    assert await reader == b"a"
    reader = asyncio.ensure_future(anext(outbox, b"end"))
    await asyncio.sleep(0)
    outbox.close()
    assert await reader == b"end"


async def test_more_than_the_limit_unread_is_too_slow() -> None:
    outbox = Outbox(10)
    outbox.put(b"0123456789")
    with pytest.raises(ReaderTooSlow):
        outbox.put(b"0")
    # The last word is let in nevertheless, and only once.
    outbox.close(b"error")
    outbox.close(b"again")
    assert [blob async for blob in outbox] == [b"0123456789error"]


async def test_one_large_blob_is_no_fault_of_the_reader() -> None:
    outbox = Outbox(10)
    outbox.put(b"0" * 100)
    assert outbox.is_filling
    assert await anext(outbox) == b"0" * 100
    assert not outbox.is_filling
