"""Spans of a real server process, sent to a real receiver of OTLP."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server.traces.provider import UnservedVariable, open_provider
from tests.end_to_end.patience import eventually
from tests.server.nibble_process import ROOT, ServerUnderTest, run_nibble
from tests.server.traces.collector import Collector, attributes, collector, exporting_to

CHAT = "/v1/chat/completions"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def body(**more: object) -> bytes:
    messages = [{"role": "user", "content": "Zanzibar calling"}]
    return json.dumps({"model": "alpha", "messages": messages, **more}).encode()


@pytest.fixture
def received() -> Iterator[Collector]:
    with collector() as running:
        yield running


def test_a_request_is_a_span_with_its_phases_in_the_trace_of_its_client(
    data: Path, received: Collector
) -> None:
    extra = exporting_to(
        received, OTEL_EXPORTER_OTLP_HEADERS="x-tenant=me", OTEL_RESOURCE_ATTRIBUTES="deployment=test"
    )
    with ServerUnderTest(data, variables=extra) as server:
        server.wait_until_loaded()
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=x"}
        with server.open(CHAT, body(stream=True, temperature=0.5, max_tokens=9, seed=3), headers) as answer:
            request_id = answer.headers["x-request-id"]
            assert answer.read().endswith(b"data: [DONE]\n\n")
        lines = server.end_cleanly()
    (span,) = received.named("chat alpha")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.trace_state == "vendor=x"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.status.code == Status.STATUS_CODE_UNSET
    told = attributes(span.attributes)
    assert 0 < told.pop("gen_ai.response.time_to_first_chunk") < 60  # type: ignore[operator]
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "nibble",
        "gen_ai.request.model": "alpha",
        "gen_ai.response.model": "alpha",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.response.finish_reasons": ["stop"],
        "nibble.request_id": request_id,
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
    }
    assert [event.name for event in span.events] == ["first text"]
    # The echo engine says that its phases took 10, 20 and 30 ms.
    assert {
        child.name: (child.end_time_unix_nano - child.start_time_unix_nano) / 1e6
        for child in received.spans
        if child.parent_span_id == span.span_id
    } == {
        "queue": pytest.approx(10, abs=0.01),
        "prefill": pytest.approx(20, abs=0.01),
        "decode": pytest.approx(30, abs=0.01),
    }
    assert received.paths == {"/v1/traces"}
    assert received.headers["x-tenant"] == "me"
    resource = received.resources[0]
    assert (resource["service.name"], resource["deployment"]) == ("nibble", "test")
    assert b"Zanzibar" not in b"".join(each.SerializeToString() for each in received.spans)
    (line,) = [line for line in lines if line.get("operation") == "chat"]
    assert (line["trace_id"], line["request_id"]) == (TRACE, request_id)


def test_what_is_not_sampled_is_not_sent_and_what_cannot_be_read_begins_a_trace(
    data: Path, received: Collector
) -> None:
    with ServerUnderTest(data, variables=exporting_to(received)) as server:
        server.wait_until_loaded()
        for traceparent in (
            f"00-{TRACE}-{PARENT}-00",
            "00-nonsense",
            "\x80" * 300,
            "00-" + "0" * 32 + "-1-01",
        ):
            with server.open(CHAT, body(), {"traceparent": traceparent}) as answer:
                assert answer.status == 200
                answer.read()
        lines = server.end_cleanly()
    spans = received.named("chat alpha")
    assert len(spans) == 3
    assert TRACE not in {span.trace_id.hex() for span in spans}
    assert not any(span.parent_span_id for span in spans)
    requests = [line for line in lines if line.get("operation") == "chat"]
    assert requests[0]["trace_id"] == TRACE, "the client's own trace is named, sampled or not"
    assert {line["trace_id"] for line in requests[1:]} == {span.trace_id.hex() for span in spans}


def test_errors_and_aborts_are_told_by_kind(data: Path, received: Collector) -> None:
    extra = exporting_to(received, ECHO_GATE=str(data / "gate"))
    with ServerUnderTest(data, variables=extra) as server:
        server.wait_until_loaded()
        for wrong in (body(max_tokens=-1), body(model="nothing")):
            with server.open(CHAT, wrong) as answer:
                assert answer.status in (400, 404)
                answer.read()
        with server.open(CHAT, body(stream=True)):
            gate = os.open(data / "gate", os.O_WRONLY)  # returns when the engine stands before it
        eventually(lambda: len(received.named("chat alpha")), bool, "the span of who has left is sent")
        server.end_cleanly()
        os.close(gate)
    told = {(span.name, attributes(span.attributes)["error.type"]) for span in received.spans}
    assert told == {("chat alpha", "invalid_request"), ("chat", "model_not_found"), ("chat alpha", "aborted")}
    assert all(span.status.code == Status.STATUS_CODE_ERROR for span in received.spans)


def test_content_is_sent_where_it_is_asked_for(data: Path, received: Collector) -> None:
    extra = exporting_to(received, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true")
    with ServerUnderTest(data, variables=extra) as server:
        server.wait_until_loaded()
        with server.open(CHAT, body()) as answer:
            answer.read()
        server.end_cleanly()
    told = attributes(received.named("chat alpha")[0].attributes)
    assert json.loads(str(told["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": "Zanzibar calling"}]}
    ]
    assert json.loads(str(told["gen_ai.output.messages"])) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "Zanzibar calling end"}],
            "finish_reason": "stop",
        }
    ]


def test_a_collector_that_hangs_holds_up_neither_answers_nor_the_end(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        extra = {"NIBBLE_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with ServerUnderTest(data, variables=extra) as server:
            server.wait_until_loaded()
            for _ in range(3):
                with server.open(CHAT, body()) as answer:
                    assert answer.status == 200
                    answer.read()
            server.end_cleanly()


def test_a_server_without_traces_loads_nothing_of_them(data: Path) -> None:
    with ServerUnderTest(data) as server:
        server.wait_until_loaded()
        maps = Path(f"/proc/{server.pid}/maps").read_text()
        assert "google/_upb" not in maps
        with server.open(CHAT, body(), {"traceparent": f"00-{TRACE}-{PARENT}-01"}) as answer:
            answer.read()
        assert not any("trace_id" in line for line in server.end_cleanly())


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER: 'otlp' and 'none' are served, not 'zipkin'",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' is served"),
    ],
)
def test_what_is_not_served_is_named(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    with pytest.raises(UnservedVariable, match=message):
        open_provider(variables)
    result = run_nibble(tmp_path, "serve", "--port", "0", "--traces", **variables)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_packages_are_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry.sdk'] = None")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    result = run_nibble(tmp_path, "serve", "--port", "0", "--traces", PYTHONPATH=path)
    assert result.returncode == 1
    assert "nibble-server[tracing]" in result.stderr
