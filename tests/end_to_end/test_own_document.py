"""What schemathesis makes of the served document, asked of the real server: it answers as it says, and lives on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.generation import GenerationMode

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.fakes.fuzzed import Case, Operation, operations_of, walk

pytestmark = pytest.mark.model

SHORT = {"max_tokens": 1, "max_completion_tokens": 1, "n": 1, "best_of": 1}
SOUND: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def operations(server: LiveServer) -> list[Operation]:
    document = schemathesis.openapi.from_dict(server.http.get("/openapi.json").json())
    return operations_of(document)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_answers_as_the_document_says(
    server: LiveServer, operations: list[Operation], session: requests.Session, mode: GenerationMode
) -> None:
    def send(case: Case) -> Any:
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
            # A token is an answer as good as any. What was not asked for stays away.
            case.body |= {name: value for name, value in SHORT.items() if name in case.body}
            if case.operation.path in ("/v1/chat/completions", "/v1/completions"):
                case.body["max_tokens"] = 1
        return case.call(base_url=server.url, session=session)

    is_sound = mode is GenerationMode.POSITIVE
    for operation in operations:
        if is_sound or operation.label.startswith("POST "):
            walk(operation, mode, send, examples=12, sound=SOUND if is_sound else {})
    assert server.answers()
