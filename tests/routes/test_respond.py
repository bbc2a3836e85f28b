"""What a request goes through, over the app in this process."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from starlette.types import Message

from engine.errors import (
    ContextLengthExceeded,
    InsufficientMemory,
    InvalidRequest,
    KeyQueueFull,
    ModelLoadFailed,
    ModelUnavailable,
    NibbleError,
    QueueFull,
    QueueTimeout,
    RequestQuarantined,
    WorkerDied,
)
from engine.events import Accepted
from routes.outbox import MAX_UNREAD_BYTES
from routes.request_policy import RequestPolicy
from tests.fakes.engine import FakeEngine, Gate, Script, answer, end, failing
from tests.fakes.house import BODIES, CHAT_BODY, CHAT_PATH, COMPLETIONS_PATH, House
from tests.fakes.registry import MODEL

STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
PATHS = pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])


@PATHS
@STREAMED
async def test_a_request_is_observed_from_beginning_to_end(path: str, stream: bool) -> None:
    house = House(FakeEngine(answer("a", "b", prompt=4)))
    assert (await house.post(path, BODIES[path] | {"stream": stream})).status_code == 200
    seen = house.telemetry.last
    assert (seen.model, seen.texts, seen.ends) == (MODEL, 1, ["finished"])
    assert [choice.usage.prompt_tokens for choice in seen.choices] == [4]
    assert house.registry.leased == house.registry.released == 1
    assert (house.engine.closed, house.engine.completed) == (1, 1)
    assert len(house.services.running) == 0


@STREAMED
async def test_a_call_that_begins_is_a_first_token_too(stream: bool) -> None:
    house = House(FakeEngine(answer("<tool_call>", '{"name": "look", "arg', 'uments": {', "}}</tool_call>")))
    house.engine.facts = msgspec.structs.replace(house.engine.facts, tool_format="hermes")
    tools = [{"type": "function", "function": {"name": "look"}}]
    reply = await house.post(CHAT_PATH, CHAT_BODY | {"tools": tools, "stream": stream})
    assert "tool_calls" in reply.text
    assert house.telemetry.last.texts == 1


@PATHS
@STREAMED
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("bad id", param="logit_bias"), 400),
        (ContextLengthExceeded("9000 tokens do not fit 8192", param="messages"), 400),
        (RequestQuarantined("it saw two deaths"), 400),
        (KeyQueueFull("512 of the key wait", retry_after_s=3.2), 429),
        (QueueFull("1024 wait", retry_after_s=3.2), 503),
        (QueueTimeout("waited too long", retry_after_s=3.2), 503),
        (ModelUnavailable("restarting"), 503),
        (WorkerDied("gone"), 503),
    ],
)
async def test_a_refusal_of_the_engine_has_its_own_status_streamed_or_not(
    path: str, stream: bool, error: NibbleError, status: int
) -> None:
    house = House(FakeEngine(failing(error)))
    reply = await house.post(path, BODIES[path] | {"stream": stream})
    assert reply.status_code == status
    told = reply.json()["error"]
    assert (told["message"], told["param"], told["code"]) == (error.message, error.param, error.kind)
    if status in (429, 503):
        assert reply.headers["retry-after"] == ("4" if error.retry_after_s else "1")
        assert reply.headers["retry-after-ms"] == ("3200" if error.retry_after_s else "1000")
    assert house.telemetry.last.ends == [error.kind]
    reasons = {"context_length_exceeded": ["context"], "request_quarantined": ["quarantine"]}
    reasons |= {name: [name] for name in ("queue_full", "key_queue_full", "queue_timeout")}
    assert house.telemetry.rejections == reasons.get(error.kind, [])
    assert house.engine.closed == 1


@STREAMED
@pytest.mark.parametrize(
    ("error", "status"),
    [(ModelLoadFailed("truncated"), 500), (InsufficientMemory("too large"), 503)],
)
async def test_a_model_that_cannot_be_loaded(stream: bool, error: NibbleError, status: int) -> None:
    house = House()
    house.registry.load_error = error
    reply = await house.post(CHAT_PATH, CHAT_BODY | {"stream": stream})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, error.kind)
    assert reply.headers.get("x-should-retry") == ("false" if status == 500 else None)


@PATHS
async def test_a_failure_within_a_stream_is_its_last_frame(path: str) -> None:
    house = House(FakeEngine(failing(WorkerDied("the worker died"), *answer("half")[:-1])))
    reply = await house.post(path, BODIES[path] | {"stream": True})
    assert reply.status_code == 200
    *_, last, rest = reply.text.split("\n\n")
    assert rest == ""
    assert json.loads(last.removeprefix("data: ")) == {
        "error": {"message": "the worker died", "type": "server_error", "param": None, "code": "worker_died"}
    }
    assert house.telemetry.last.ends == ["worker_died"]


async def test_the_same_failure_unstreamed_is_a_status() -> None:
    house = House(FakeEngine(failing(WorkerDied("the worker died"), *answer("half")[:-1])))
    assert (await house.post(CHAT_PATH, CHAT_BODY)).status_code == 503


@STREAMED
@pytest.mark.parametrize("script", [[ZeroDivisionError("ours")], [*answer()[:1], ZeroDivisionError("ours")]])
async def test_a_defect_is_an_internal_error_that_tells_nothing(script: Script, stream: bool) -> None:
    house = House(FakeEngine(script))
    reply = await house.post(CHAT_PATH, CHAT_BODY | {"stream": stream})
    assert "internal_error" in reply.text
    assert "ours" not in reply.text
    assert house.telemetry.last.ends == ["internal_error"]


@STREAMED
async def test_a_request_has_a_time_limit(stream: bool) -> None:
    house = House(FakeEngine([Gate()]), RequestPolicy(request_timeout_s=0.01))
    reply = await house.post(CHAT_PATH, CHAT_BODY | {"stream": stream})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "request_timeout")
    assert reply.headers["x-should-retry"] == "false"
    assert (house.engine.closed, house.telemetry.last.ends) == (1, ["request_timeout"])


async def test_the_time_limit_of_a_stream_is_its_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    house = House(FakeEngine([*answer("a")[:-1], gate]), RequestPolicy(request_timeout_s=600))
    asked = asyncio.create_task(house.post(CHAT_PATH, CHAT_BODY | {"stream": True}))
    await gate.reached.wait()
    # The limit is reached once the stream has begun, however slow the machine is, because the clock is put on.
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + 600)
    reply = await asked
    assert reply.status_code == 200
    assert "request_timeout" in reply.text
    assert "[DONE]" not in reply.text


async def test_a_timeout_from_elsewhere_is_not_taken_for_the_limit() -> None:
    house = House(FakeEngine([TimeoutError("of a socket, say")]))
    reply = await house.post(CHAT_PATH, CHAT_BODY)
    assert reply.json()["error"]["code"] == "internal_error"


@STREAMED
async def test_a_server_that_stops_ends_what_still_runs_with_an_error(stream: bool) -> None:
    gate = Gate()
    house = House(FakeEngine([*answer("a")[:-1], gate]))
    reply = asyncio.create_task(house.post(CHAT_PATH, CHAT_BODY | {"stream": stream}))
    await gate.reached.wait()
    house.services.running.drain()
    refused = await house.post(CHAT_PATH, CHAT_BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
    house.services.running.end(ModelUnavailable("The drain time is over."))
    assert "The drain time is over." in (await reply).text
    assert (await reply).status_code == (200 if stream else 503)
    assert house.engine.closed == 1


@PATHS
async def test_an_unknown_model_is_404_and_counted_under_no_name_of_the_client_s(path: str) -> None:
    house = House()
    reply = await house.post(path, BODIES[path] | {"model": "nope"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert MODEL in reply.json()["error"]["message"]
    assert (house.telemetry.last.model, house.telemetry.last.ends) == ("unknown", ["model_not_found"])


async def test_a_bad_body_is_counted_too() -> None:
    house = House()
    assert (await house.post(CHAT_PATH, b"{")).status_code == 400
    assert (house.telemetry.last.model, house.telemetry.last.ends) == ("unknown", ["invalid_request"])


@pytest.mark.parametrize(("model", "label"), [(MODEL, MODEL), ("nope", "unknown"), (5, "unknown")])
async def test_a_body_with_a_bad_field_counts_for_the_model_that_it_names(model: object, label: str) -> None:
    house = House()
    assert (await house.post(CHAT_PATH, CHAT_BODY | {"model": model, "top_p": 7})).status_code == 400
    assert (house.telemetry.last.model, house.telemetry.last.ends) == (label, ["invalid_request"])


async def test_headers_wait_for_the_engine_s_word() -> None:
    admitted, first = Gate(), Gate()
    house = House(FakeEngine([admitted, [Accepted(1, 3)], first, [end(text="a", completion=1)]]))
    async with asyncio.timeout(5):
        sent: list[Message] = []
        headers = asyncio.Event()

        async def send(message: Message) -> None:
            sent.append(message)
            headers.set()

        call = asyncio.create_task(call_app(house, CHAT_BODY | {"stream": True}, send))
        await admitted.reached.wait()
        assert sent == []
        admitted.open.set()
        await headers.wait()
        assert [message["type"] for message in sent] == ["http.response.start"]
        first.open.set()
        await call
    # One engine step is one send, however many chunks it makes.
    body = [message["body"] for message in sent if message["type"] == "http.response.body"]
    assert b"".join(body).count(b"data: ") == 4
    assert len([part for part in body if part]) <= 2


async def test_a_client_that_does_not_read_holds_nobody_up_and_misses_nothing() -> None:
    stuck, reads = asyncio.Event(), asyncio.Event()
    texts = [f"{number:03}" for number in range(50)]
    gate = Gate()
    steps = answer(*texts)
    house = House(FakeEngine([*steps[:4], gate, *steps[4:]]))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await reads.wait()
        sent.append(message)

    call = asyncio.create_task(call_app(house, CHAT_BODY | {"stream": True}, send))
    await stuck.wait()
    await gate.reached.wait()
    gate.open.set()
    reads.set()
    await call
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    told = _texts(b"".join(bodies))
    assert [text for text in told if text] == texts
    assert len(bodies) < len(texts), "what waited goes out together"


async def test_a_client_that_does_not_read_much_too_long_is_told_so_behind_what_was_kept() -> None:
    stuck, reads = asyncio.Event(), asyncio.Event()
    gate = Gate()
    house = House(FakeEngine([*answer(*["x" * 10_000] * 200)[:-1], gate]))
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await reads.wait()
            sent.append(message["body"])

    call = asyncio.create_task(call_app(house, CHAT_BODY | {"stream": True}, send))
    await stuck.wait()
    await house.engine.all_closed.wait()
    assert not gate.reached.is_set(), "its place is free before it reads"
    reads.set()
    await call
    body = b"".join(sent)
    assert MAX_UNREAD_BYTES < len(body) < 1.1 * MAX_UNREAD_BYTES
    assert b"read too slowly" in body.rpartition(b"data: ")[2]
    assert house.telemetry.last.ends == ["request_timeout"]


def _texts(body: bytes) -> list[str]:
    frames = [frame for frame in body.split(b"\n\n") if frame.startswith(b"data: {")]
    deltas = [choice["delta"] for frame in frames for choice in json.loads(frame[6:])["choices"]]
    return [delta.get("content") or "" for delta in deltas]


async def test_a_send_that_never_ends_is_given_up() -> None:
    house = House(FakeEngine([*answer("a")[:-1], Gate()]), RequestPolicy(send_timeout_s=0.01))

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await call_app(house, CHAT_BODY | {"stream": True}, send)
    assert (house.engine.closed, house.telemetry.last.ends) == (1, ["aborted"])


async def call_app(house: House, body: dict[str, object], send: object) -> None:
    """The app as a server calls it, with a client that stays."""
    parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": CHAT_PATH,
        "raw_path": CHAT_PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"nibble"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await house.app(scope, receive, send)  # type: ignore[arg-type]
