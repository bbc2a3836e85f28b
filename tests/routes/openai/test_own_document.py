"""Every operation of our own OpenAPI document, asked by schemathesis: nothing fails, and all answers are described."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from schemathesis.generation import GenerationMode

from tests.fakes.engine import EndingEngine
from tests.fakes.fuzzed import Case, operations_of, walk
from tests.fakes.house import ADMIN_BODIES, BODIES, PLAIN_BODIES, House

DOCUMENT = schemathesis.openapi.from_asgi("/openapi.json", House(EndingEngine()).app)
OPERATIONS = {operation.label: operation for operation in operations_of(DOCUMENT)}
ALL = {**BODIES, **PLAIN_BODIES, **ADMIN_BODIES}
POSTED = [label for label in OPERATIONS if label.startswith("POST ")]
AMENDED = "PATCH /admin/v1/models/{model_id}"


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_document_allows_is_answered_as_it_says(label: str) -> None:
    walk(OPERATIONS[label], GenerationMode.POSITIVE, _send, examples=40)


@pytest.mark.parametrize("label", [*POSTED, AMENDED, "GET /props"])
def test_what_the_document_forbids_is_refused(label: str) -> None:
    walk(OPERATIONS[label], GenerationMode.NEGATIVE, _send, examples=60)


@pytest.mark.parametrize("label", POSTED)
def test_with_a_sound_question_in_it_some_of_it_is_served(label: str) -> None:
    operation = OPERATIONS[label]
    statuses = walk(operation, GenerationMode.POSITIVE, _send, examples=60, sound=ALL[operation.path])
    assert statuses[200] or statuses[202], statuses


def _send(case: Case) -> Any:
    return case.call()
