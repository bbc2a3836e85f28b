"""OpenTelemetry's SDK, set by its own variables (``OTEL_*``)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from server.version import version_of

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class UnservedVariable(Exception):
    """A variable asks for what is not here; the message names it, and what is."""


def open_provider(environ: Mapping[str, str] = os.environ) -> TracerProvider:
    """What makes spans and sends them, in a thread of its own. Raises UnservedVariable.

    Endpoint, headers, sampler, limits and resource are read by the SDK, with the specification's defaults.
    """
    if (exporter := environ.get("OTEL_TRACES_EXPORTER") or "otlp") not in ("otlp", "none"):
        raise UnservedVariable(f"OTEL_TRACES_EXPORTER: 'otlp' and 'none' are served, not '{exporter}'")
    named = next((name for name in _PROTOCOLS if environ.get(name)), _PROTOCOLS[0])
    if (protocol := environ.get(named) or "http/protobuf") != "http/protobuf":
        raise UnservedVariable(f"{named}: 'http/protobuf' is served, not '{protocol}'")
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "nibble"}))
    if SERVICE_VERSION not in resource.attributes:
        resource = resource.merge(Resource({SERVICE_VERSION: version_of()}))
    # The server says itself when it ends: at interpreter exit a collector that hangs would hold up the end.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if exporter == "otlp":
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
