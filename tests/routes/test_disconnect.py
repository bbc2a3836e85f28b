"""A client that goes away frees its place, whatever the request was doing. Over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.events import Accepted
from routes.request_policy import RequestPolicy
from server.http_protocol import HttpProtocol, protocol_with
from server.receipt_limits import ReceiptLimits
from tests.fakes.engine import FakeEngine, Gate, Step, answer, piece
from tests.fakes.house import BODIES, CHAT_PATH, COMPLETIONS_PATH, House
from tests.fakes.loopback import deaf_request, loopback, send_request

HTTP = pytest.mark.parametrize("http", [HttpToolsProtocol, HttpProtocol], ids=["asgi", "ours"])
QUEUED: list[Step] = []
PREFILLING: list[Step] = [[Accepted(1, 3)]]
DECODING: list[Step] = [[Accepted(1, 3)], [piece("a")]]


@HTTP
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("before", [QUEUED, PREFILLING, DECODING], ids=["queued", "prefilling", "decoding"])
@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
async def test_the_engine_is_told_once(
    path: str, before: list[Step], stream: bool, http: type[HttpToolsProtocol]
) -> None:
    gate = Gate()
    house = House(FakeEngine([*before, gate]))
    async with loopback(house.app, http) as server:
        _, writer = await send_request(server.port, path, BODIES[path] | {"stream": stream})
        await gate.reached.wait()
        writer.close()
        await asyncio.wait_for(house.engine.all_closed.wait(), 5)
    assert (house.engine.started, house.engine.closed, house.engine.completed) == (1, 1, 0)
    assert house.registry.leased == house.registry.released == 1
    assert house.telemetry.last.ends == ["aborted"]
    assert len(house.services.running) == 0


@HTTP
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_model_that_loads_is_let_go(stream: bool, http: type[HttpToolsProtocol]) -> None:
    house = House()
    house.registry.loading = Gate()
    async with loopback(house.app, http) as server:
        _, writer = await send_request(server.port, CHAT_PATH, BODIES[CHAT_PATH] | {"stream": stream})
        await house.registry.loading.reached.wait()
        writer.close()
        await writer.wait_closed()
    assert house.engine.started == 0
    assert house.registry.leased == house.registry.released == 1
    assert house.telemetry.last.ends == ["aborted"]


@HTTP
async def test_a_client_that_leaves_within_its_body_asks_for_nothing(http: type[HttpToolsProtocol]) -> None:
    house = House()
    async with loopback(house.app, http) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: nibble\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert house.registry.leased == 0


@HTTP
async def test_one_client_that_leaves_does_not_disturb_another(http: type[HttpToolsProtocol]) -> None:
    gate = Gate()
    house = House(FakeEngine([[Accepted(1, 3)], gate, *FakeEngine().script[1:]]))
    async with loopback(house.app, http) as server:
        body = BODIES[CHAT_PATH] | {"stream": True}
        _, leaver = await send_request(server.port, CHAT_PATH, body)
        reader, writer = await send_request(server.port, CHAT_PATH, body)
        await reader.readuntil(b"\r\n\r\n")
        leaver.close()
        gate.open.set()
        text = await reader.readuntil(b"data: [DONE]\n\n")
        writer.close()
    assert b'" world"' in text


@HTTP
async def test_running_streams_outlive_the_order_to_stop(http: type[HttpToolsProtocol]) -> None:
    gate = Gate()
    house = House(FakeEngine([[Accepted(1, 3)], [piece("a")], gate, *FakeEngine().script[1:]]))
    async with loopback(house.app, http) as server:
        reader, writer = await send_request(server.port, CHAT_PATH, BODIES[CHAT_PATH] | {"stream": True})
        await reader.readuntil(b'"a"')
        server.begin_stop()
        # sse-starlette would look for the order twice a second, and cut the stream.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(house.engine.all_closed.wait(), 0.7)
        gate.open.set()
        assert await reader.readuntil(b"data: [DONE]\n\n")
        writer.close()
    assert house.telemetry.last.ends == ["finished"]


@HTTP
async def test_a_silent_stream_is_pinged(http: type[HttpToolsProtocol]) -> None:
    gate = Gate()
    house = House(FakeEngine([[Accepted(1, 3)], gate]), RequestPolicy(ping_s=0.01))
    async with loopback(house.app, http) as server:
        reader, writer = await send_request(server.port, CHAT_PATH, BODIES[CHAT_PATH] | {"stream": True})
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"text/event-stream" in head
        assert b"cache-control: no-store" in head.lower()
        for _ in range(2):
            assert await reader.readuntil(b"\n\n\r\n") == b"8\r\n: ping\n\n\r\n"
        writer.close()


@HTTP
async def test_a_connection_is_kept_for_the_next_request(http: type[HttpToolsProtocol]) -> None:
    house = House()
    async with loopback(house.app, http) as server:
        reader, writer = await send_request(server.port, CHAT_PATH, BODIES[CHAT_PATH] | {"stream": True})
        await reader.readuntil(b"0\r\n\r\n")
        raw = json.dumps(BODIES[COMPLETIONS_PATH]).encode()
        writer.write(
            f"POST {COMPLETIONS_PATH} HTTP/1.1\r\nhost: nibble\r\ncontent-type: application/json\r\n"
            f"content-length: {len(raw)}\r\n\r\n".encode()
            + raw
        )
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_client_that_does_not_read_is_dropped(stream: bool) -> None:
    """A connection that is closed waits until all is read. This one is gone, with all that it holds."""
    much: Step = [piece("x" * 100_000)]
    engine = FakeEngine([[Accepted(1, 3)], *[much] * 400, *answer()[-1:]])
    house = House(engine, RequestPolicy(send_timeout_s=0.05))
    limits = ReceiptLimits(send_timeout_s=0.05)
    async with loopback(house.app, protocol_with(limits)) as server:
        with deaf_request(server.port, CHAT_PATH, BODIES[CHAT_PATH] | {"stream": stream}):
            await asyncio.wait_for(engine.all_closed.wait(), 5)
            async with asyncio.timeout(5):
                await server.all_gone()
    # Of a stream, more waited than is kept for whoever reads slowly.
    assert house.telemetry.last.ends == ["request_timeout" if stream else "finished"]


async def test_a_client_that_reads_slowly_gets_all() -> None:
    much: Step = [piece("x" * 100_000)]
    house = House(FakeEngine([[Accepted(1, 3)], *[much] * 100, *answer()[-1:]]))
    async with loopback(house.app, protocol_with(ReceiptLimits(send_timeout_s=0.05))) as server:
        reader, writer = await send_request(server.port, CHAT_PATH, BODIES[CHAT_PATH])
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while left:
            part = await reader.read(500_000)
            assert part, f"the connection ended {left} bytes too early"
            left -= len(part)
            await asyncio.sleep(0.01)
        writer.close()
