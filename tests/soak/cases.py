"""Thousands of requests that schemathesis makes of the served document: no 5xx, no answer that it does not describe."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis.generation import GenerationMode

from tests.fakes.fuzzed import Case, operations_of, walk
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet

_SHORT = {"max_tokens": 1, "max_completion_tokens": 1, "n": 1, "best_of": 1}
_GENERATING = ("/v1/chat/completions", "/v1/completions")


def soak_cases(home: Path, *, count: int = 20_000) -> Finding:
    """Half of them fit the document and half do not, spread over all operations."""
    finding = Finding("cases")
    began_s = time.monotonic()
    with Fleet(home, "--parallel", "8", tiny=1) as fleet, requests.Session() as session:
        fleet.ready_all()
        session.trust_env = False
        workers = fleet.workers()
        statuses, operations = _walk_all(fleet, session, finding, count)
        finding.expect(fleet.workers() == workers, "a worker was replaced")
        finding.expect(fleet.one_answer(fleet.models[0]) == 200, "it does not answer any more")
        finding.expect(not fleet.has_traceback(), "a traceback in the log")
    finding.figures = {
        "cases": f"{sum(statuses.values())}, over {operations} operations",
        "statuses": ", ".join(f"{status}: {times}" for status, times in sorted(statuses.items())),
        "time": f"{time.monotonic() - began_s:.0f} s",
    }
    return finding


def _walk_all(
    fleet: Fleet, session: requests.Session, finding: Finding, count: int
) -> tuple[Counter[int], int]:
    operations = operations_of(schemathesis.openapi.from_dict(fleet.http.get("/openapi.json").json()))
    # A GET has little that could be wrong with it: the count is reached by those with a body.
    tasks = [(each, GenerationMode.POSITIVE) for each in operations]
    tasks += [(each, GenerationMode.NEGATIVE) for each in operations if each.label.startswith("POST ")]
    most = 2 * sum(each.label.startswith("POST ") for each in operations)
    sound: dict[str, Any] = {"model": fleet.models[0], "messages": [{"role": "user", "content": "Hi"}]}
    statuses: Counter[int] = Counter()
    for operation, mode in tasks:
        is_sound = mode is GenerationMode.POSITIVE

        def send(case: Case, is_sound: bool = is_sound) -> Any:
            if isinstance(case.body, dict) and is_sound:
                case.body |= {name: value for name, value in _SHORT.items() if name in case.body}
                if case.operation.path in _GENERATING:
                    case.body["max_tokens"] = 1
            return case.call(base_url=fleet.url, session=session)

        try:
            statuses += walk(
                operation, mode, send, examples=-(-count // most), sound=sound if is_sound else {}
            )
        except AssertionError as error:
            finding.faults.append(f"{operation.label} ({mode.value}): {str(error)[:600]}")
    return statuses, len(operations)
