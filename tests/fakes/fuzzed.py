"""Requests that schemathesis makes of our own OpenAPI document: such as fit it, and such as do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Err
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

Operation = schemathesis.APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]


def operations_of(document: schemathesis.BaseSchema) -> list[Operation]:
    """Raises for a part of the document that schemathesis cannot read."""
    found: list[Operation] = []
    for result in document.get_all_operations():
        if isinstance(result, Err):
            raise result.err()
        found.append(result.ok())
    return found


def walk(
    operation: Operation,
    mode: GenerationMode,
    send: Callable[[Case], Any],
    *,
    examples: int,
    sound: Mapping[str, Any] = {},
) -> Counter[int]:
    """How often each status was answered. Fails at a 5xx, at an answer that the document does not describe, and where
    a request that does not fit it is served.

    ``sound`` takes the place of fields that a generator cannot guess, such as the model, where the request has them.
    """
    statuses: Counter[int] = Counter()

    # Without shrinking: a request that fails is printed as it is, and the time is bounded.
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def requests(case: Case) -> None:
        if isinstance(case.body, dict):
            case.body |= {name: value for name, value in sound.items() if name in case.body}
        response = send(case)
        assert response.status_code < 500, (response.text, case.body)
        checks = [status_code_conformance, content_type_conformance]
        # The schema of a stream is that of its chunks, as in OpenAI's document; schemathesis takes it for that of
        # server-sent events, which are no chunks yet. The strict client and tests/routes read streams.
        # (Its own responses have lists of values for headers, those of httpx texts.)
        if "text/event-stream" not in str(response.headers.get("content-type")):
            checks.append(response_schema_conformance)
        case.validate_response(response, checks=checks)
        if mode is GenerationMode.NEGATIVE:
            assert response.status_code >= 400, (case.body, case.query, case.headers)
        statuses[response.status_code] += 1

    requests()
    return statuses
