"""A span for each request, in the terms of OpenTelemetry's conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/: they are still called experimental, so the names
are written out here and do not follow an update of a library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from engine.errors import NibbleError
from generation.events import Event, Finished, Usage
from generation.request import GenerationRequest
from server.metrics import UNKNOWN
from server.request_record import CURRENT
from server.traces.trace_context import ARRIVAL
from server.transcript import Transcript, input_messages
from server.version import version_of

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_OPERATIONS: Final = {"completions": "text_completion"}
"""Ours have the conventions' names, but for these."""
_PHASES: Final = ("queue", "prefill", "decode")
_CLOSE_S: Final = 3.0
"""How long the end of the server waits for a collector that does not answer."""


class TraceTelemetry:
    """Implements ``routes.telemetry.Telemetry``. Owned by the event loop; sending is the provider's own thread's."""

    def __init__(self, provider: TracerProvider, environ: Mapping[str, str] = os.environ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("nibble", version_of())
        self._with_content = environ.get(CONTENT_VARIABLE, "").strip().lower() == "true"

    def request_started(self, model: str, operation: str) -> RequestSpan:
        arrival = ARRIVAL.get()
        name = _OPERATIONS.get(operation, operation)
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": "nibble",
        }
        if model != UNKNOWN:
            attributes |= {"gen_ai.request.model": model, "gen_ai.response.model": model}
        if arrival is not None and arrival.host is not None:
            attributes["server.address"] = arrival.host
            if arrival.port is not None:
                attributes["server.port"] = arrival.port
        record = CURRENT.get()
        if record is not None:
            attributes["nibble.request_id"] = record.request_id
        span = self._tracer.start_span(
            name if model == UNKNOWN else f"{name} {model}",
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=None if arrival is None else arrival.began_ns,
        )
        identity = span.get_span_context()
        if record is not None and identity.is_valid:
            record.trace_id = f"{identity.trace_id:032x}"
        return RequestSpan(span, self._tracer, with_content=self._with_content and span.is_recording())

    def rejected(self, reason: str) -> None:
        """A figure for metrics; the request's own span tells of its error."""

    async def close(self) -> None:
        """Send what is left, if somebody takes it in time. A thread that hangs ends with the process."""
        loop = asyncio.get_running_loop()
        closed = loop.create_future()

        def shut_down() -> None:
            self._provider.shutdown()
            # The loop may have ended before a collector that hangs gave up.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(closed.cancel)

        threading.Thread(target=shut_down, name="end of traces", daemon=True).start()
        await asyncio.wait({closed}, timeout=_CLOSE_S)


class RequestSpan:
    """Implements ``routes.telemetry.RequestObservation``. Where the trace is not sampled, every call does nothing."""

    def __init__(self, span: Span, tracer: Tracer, *, with_content: bool) -> None:
        self._span = span
        self._tracer = tracer
        self._began = time.perf_counter()
        self._transcript = Transcript() if with_content else None

    @property
    def wants_content(self) -> bool:
        return self._transcript is not None

    def asked(self, request: object) -> None:
        if not self._span.is_recording():
            return
        if isinstance(request, GenerationRequest):
            self._span.set_attributes(_parameters(request))
        if self._transcript is not None:
            self._span.set_attribute("gen_ai.input.messages", json.dumps(input_messages(request)))

    def told(self, events: Sequence[Event]) -> None:
        if self._transcript is not None:
            self._transcript.add(events)

    def first_text(self) -> None:
        seconds = time.perf_counter() - self._began
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._span.add_event("first text")

    def finished(self, choices: Sequence[Finished]) -> None:
        if self._span.is_recording():
            usage = sum((choice.usage for choice in choices), Usage())
            self._span.set_attributes(
                {
                    "gen_ai.usage.input_tokens": usage.prompt_tokens,
                    "gen_ai.usage.output_tokens": usage.completion_tokens,
                    "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                    "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
                    "gen_ai.response.finish_reasons": [choice.reason for choice in choices],
                }
            )
            if choices:
                self._tell_phases(max(choices, key=lambda choice: sum(_phases(choice))))
        self._end()

    def failed(self, error: NibbleError) -> None:
        self._fail(error.kind)

    def aborted(self) -> None:
        self._fail("aborted")

    def _fail(self, kind: str) -> None:
        # The kind alone: an error's message may repeat what the client sent.
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, kind))
        self._end()

    def _end(self) -> None:
        if self._transcript is not None and (messages := self._transcript.output_messages()):
            self._span.set_attribute("gen_ai.output.messages", json.dumps(messages))
        self._span.end()

    def _tell_phases(self, choice: Finished) -> None:
        """Of the choice that took longest, counted back from now: choices run side by side."""
        seconds = _phases(choice)
        parent = set_span_in_context(self._span)
        end_ns = time.time_ns()
        for at, name in reversed(list(enumerate(_PHASES))):
            begin_ns = end_ns - round(seconds[at] * 1e9)
            if seconds[at]:
                self._tracer.start_span(name, parent, start_time=begin_ns).end(end_ns)
            end_ns = begin_ns


def _phases(choice: Finished) -> tuple[float, float, float]:
    return choice.timings.queue_s, choice.timings.prefill_s, choice.timings.decode_s


def _parameters(request: GenerationRequest) -> dict[str, str | int | float | Sequence[str]]:
    sampling = request.sampling
    told: dict[str, str | int | float | Sequence[str] | None] = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": float(sampling.top_k) if sampling.top_k else None,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty or None,
        "gen_ai.request.presence_penalty": sampling.presence_penalty or None,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.choice.count": request.n if request.n > 1 else None,
    }
    return {name: value for name, value in told.items() if value is not None}
