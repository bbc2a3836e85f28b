"""Every field of every request over every way to be wrong: served, or a 400 that names the field."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.errors import InvalidRequest
from routes.json_body import validate
from routes.openai.chat import parse as chat
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.completions import parse as completions
from routes.openai.completions.body import CompletionBody
from routes.openai.sampling_fields import SamplingFields
from tests.fakes.house import CHAT_BODY, CHAT_PATH, COMPLETION_BODY, House

DIALECTS: dict[str, tuple[type[SamplingFields], dict[str, object]]] = {
    "chat": (ChatCompletionBody, CHAT_BODY),
    "completions": (CompletionBody, COMPLETION_BODY),
}
FIELDS: list[tuple[str, str]] = [
    (dialect, name) for dialect, (body, _) in DIALECTS.items() for name in body.model_fields
]
HUGE = "x" * 100_000
WRONG: list[Any] = [
    True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, "", "x", HUGE,
    [], [[]], [None], [1], ["x"], [{}], list(range(10_000)), ["x"] * 10_000, {}, {"x": 1}, {"1": 1},
    {str(key): 0 for key in range(20_000)},
]  # fmt: skip
RAW = {
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "1e999": b"1e999",
    "surrogate": b'"\\ud800"',
    "surrogate inside": b'[{"x": "\\udfff"}]',
    "surrogate key": b'{"\\ud800": 1}',
}


_READING = json.dumps({str(key): 0 for key in range(20_000)}).encode()
_PROMISED_READINGS = 5  # some 25 ms, of 50 that are promised; the worst takes 2.4
_SURELY_QUICK_S = 0.001  # less than five readings on any machine: not worth asking
_GOES = 10


@pytest.fixture(autouse=True)
def _no_collection_of_garbage() -> Iterator[None]:
    """What is timed here is not how long Python takes to look through all that a test run holds."""
    gc.disable()
    yield
    gc.enable()


def read(dialect: str, raw: bytes) -> None:
    if dialect == "chat":
        chat.parse(validate(raw, ChatCompletionBody, strict=True).value, "")
    else:
        completions.parse(validate(raw, CompletionBody, strict=True).value, "")


def thread_seconds(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def refusal(dialect: str, raw: bytes) -> InvalidRequest | None:
    """What ``raw`` is refused with, after no more work than five readings of 229 KB of plain JSON.

    The machine's own speed is asked beside it, in the same go: it changes from one moment to the next. So of a few
    goes half must keep the promise.
    """
    found: InvalidRequest | None = None

    def read_it() -> None:
        nonlocal found
        try:
            read(dialect, raw)
        except InvalidRequest as error:
            found = error

    readings: list[float] = []
    for _ in range(_GOES):
        spent_s = thread_seconds(read_it)
        if spent_s < _SURELY_QUICK_S:
            return found
        readings.append(spent_s / thread_seconds(lambda: json.loads(_READING)))
        if statistics.median_low(readings) < _PROMISED_READINGS:
            return found
    raise AssertionError(f"took {min(readings):.1f} readings and more instead of {_PROMISED_READINGS}")


def with_raw(dialect: str, name: str, raw: bytes) -> bytes:
    body = DIALECTS[dialect][1] | {name: "MARK"}
    return json.dumps(body).encode().replace(b'"MARK"', raw)


@pytest.mark.parametrize(("dialect", "name"), FIELDS)
def test_wrong_values_are_refused_by_name_or_served(dialect: str, name: str) -> None:
    refused = 0
    for value in WRONG:
        raw = with_raw(dialect, name, json.dumps(value).encode())
        if error := refusal(dialect, raw):
            refused += 1
            # `stream` is the only field that another one can be wrong beside.
            assert error.param is not None
            assert error.param.partition("[")[0].partition(".")[0] == name, (value, error.message)
            assert len(error.message) < 500
    assert refused >= len(WRONG) / 3


@pytest.mark.parametrize(("dialect", "name"), FIELDS)
@pytest.mark.parametrize("case", RAW)
def test_what_is_not_quite_json_is_refused_by_name(dialect: str, name: str, case: str) -> None:
    error = refusal(dialect, with_raw(dialect, name, RAW[case]))
    assert error is not None
    assert (error.param or "").partition("[")[0].partition(".")[0] == name


@pytest.mark.parametrize(("dialect", "name"), FIELDS)
def test_a_field_given_twice_is_refused_by_name(dialect: str, name: str) -> None:
    body = json.dumps(DIALECTS[dialect][1] | {name: None}).encode()
    error = refusal(dialect, body[:-1] + f', "{name}": null}}'.encode())
    assert error is not None
    assert error.param == name


@pytest.mark.parametrize(
    ("dialect", "name"),
    [("chat", "model"), ("chat", "messages"), ("completions", "model"), ("completions", "prompt")],
)
def test_required_fields_are_required(dialect: str, name: str) -> None:
    body = {key: value for key, value in DIALECTS[dialect][1].items() if key != name}
    error = refusal(dialect, json.dumps(body).encode())
    assert error is not None
    assert (error.param, "required" in error.message) == (name, True)
    error = refusal(dialect, with_raw(dialect, name, b"null"))
    assert (error and error.param) == (None if (dialect, name) == ("completions", "prompt") else name)


BOUNDS: list[tuple[str, list[object], list[object]]] = [
    ("temperature", [0, 0.0, 2, 2.0], [-0.001, 2.001]),
    ("top_p", [0, 1, 1.0], [-0.001, 1.001]),
    ("top_k", [-1, 0, 1, 2**31 - 1], [-2, 2**31, 1.0]),
    ("min_p", [0, 1], [-0.001, 1.001]),
    ("seed", [-(2**63), 2**63 - 1, 0], [-(2**63) - 1, 2**63, 1.0]),
    ("frequency_penalty", [-2, 2, 0], [-2.001, 2.001]),
    ("presence_penalty", [-2, 2, 0], [-2.001, 2.001]),
    ("repeat_penalty", [0.001, 1, 10], [0, -1, 10.001]),
    ("repeat_last_n", [-1, 0, 2**31 - 1], [-2, 2**31, 1.0]),
    ("typical_p", [0, 1], [-0.001, 1.001]),
    ("top_n_sigma", [-1, 0, 100], [-1.001, 100.001]),
    ("xtc_probability", [0, 1], [-0.001, 1.001]),
    ("xtc_threshold", [0, 1], [-0.001, 1.001]),
    ("min_keep", [0, 2**31 - 1], [-1, 2**31, 1.0]),
    ("dynatemp_range", [0, 2], [-0.001, 2.001]),
    ("dynatemp_exponent", [0, 10], [-0.001, 10.001]),
    ("mirostat", [0, 1, 2], [-1, 3, 1.0, True]),
    ("mirostat_tau", [0, 100], [-0.001, 100.001]),
    ("mirostat_eta", [0, 1], [-0.001, 1.001]),
    ("dry_multiplier", [0, 100], [-0.001, 100.001]),
    ("dry_base", [1, 100], [0.999, 100.001]),
    ("dry_allowed_length", [0, 2**31 - 1], [-1, 2**31, 1.0]),
    ("dry_penalty_last_n", [-1, 0, 2**31 - 1], [-2, 2**31, 1.0]),
    ("dry_sequence_breakers", [[], ["\n"], ["x" * 40] * 16], ["x", [""], ["x" * 41], ["x"] * 17, [1]]),
    (
        "bad_words",
        [[], ["x"], [[1]], ["x", [1, 2]], ["x" * 256] * 256, [[5] * 64]],
        ["x", [""], [[]], ["x" * 257], ["x"] * 257, [1], [[-1]], [[2**31]], [["x"]], [[5] * 65]],
    ),
    (
        "allowed_token_ids",
        [[0], [2**31 - 1], [1] * 10_000],
        [[], [-1], [2**31], ["1"], [True], [1.0], [1] * 10_001, 5],
    ),
    ("n", [1, 128], [0, -1, 129, 1.0, True]),
    ("max_tokens", [1, 2**31 - 1], [0, -1, 2**31, 1.5]),
    ("min_tokens", [0, 1, 16], [-1, 2**31]),
    ("stop", [None, "x", [], ["x"], list("abcd"), "x" * 1024], ["", [""], list("abcde"), "x" * 1025, [1]]),
    (
        "logit_bias",
        [{}, {"0": 0}, {"5": -100}, {"5": 100.0}, {str(2**31 - 1): 1}],
        [{"5": 100.001}, {"5": -101}, {"-1": 1}, {"x": 1}, {"": 1}, {" 5": 1}, {"٥": 1}, {str(2**31): 1},
         {"5": "1"}, {"5": None}, {"5": True}, {"5": 1, "05": 1}, [], "x"],
    ),
    ("ignore_eos", [True, False], [0, 1, "true"]),
    ("stream", [True, False], [0, 1, "true"]),
    ("timings", [True, False], [0, 1, "true"]),
    ("json_schema", [{}, {"type": "object"}], [[], "x", 1, True]),
    ("grammar", ['root ::= "x"', "x" * 65_536], ["", "x" * 65_537, {}, 1]),
    ("regex", ["x"], ["", "x" * 65_537, {}, 1]),
    ("lark", ['start: "x"'], ["", "x" * 65_537, {}, 1]),
    ("user", ["", "x"], [1, ["x"]]),
    ("lora", [[], [{"id": "poet"}], [{"id": 0, "scale": 0.5}], [{"id": "poet", "scale": -16}]],
        [[{}], [{"id": ""}], [{"id": -1}], [{"id": "poet", "scale": 16.1}], [{"id": "poet", "x": 1}], {}, "poet", [1]]),
    ("priority", [-100, 0, 100], [-101, 101, 1.0, True, "1"]),
    ("model", ["m"], ["", "x" * 513, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "served", "refused"), BOUNDS, ids=[name for name, _, _ in BOUNDS])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_bounds(dialect: str, name: str, served: list[object], refused: list[object]) -> None:
    for value in served:
        assert refusal(dialect, with_raw(dialect, name, json.dumps(value).encode())) is None, value
    for value in refused:
        error = refusal(dialect, with_raw(dialect, name, json.dumps(value).encode()))
        assert error is not None, value
        assert (error.param or "").partition("[")[0] == name


def test_every_shared_field_has_its_bounds_tested() -> None:
    shared = ChatCompletionBody.model_fields.keys() & CompletionBody.model_fields.keys()
    tested = {name for name, _, _ in BOUNDS} | {"stream_options", "logprobs"}
    assert shared == tested


OWN: list[tuple[str, str, list[object], list[object]]] = [
    ("chat", "logprobs", [True, False, None], [0, 1, 5, "true", [], {}]),
    # Valid beside true logprobs alone: see the tests of parsing.
    ("chat", "top_logprobs", [None], [-1, 21, 1.0, True, "5", [], {}]),
    ("completions", "best_of", [1, 2, 20, None], [0, -1, 21, 1.0, True, "2"]),
    ("completions", "suffix", ["", "x", None], [1, True, [], ["x"], {}]),
    ("completions", "echo", [True, False, None], [0, 1, "true", []]),
    ("completions", "logprobs", [0, 1, 5, None], [-1, 6, 1.0, True, False, "5", [], {}]),
]


@pytest.mark.parametrize(("dialect", "name", "served", "refused"), OWN)
def test_bounds_of_fields_that_the_dialects_have_of_their_own(
    dialect: str, name: str, served: list[object], refused: list[object]
) -> None:
    for value in served:
        assert refusal(dialect, with_raw(dialect, name, json.dumps(value).encode())) is None, value
    for value in refused:
        error = refusal(dialect, with_raw(dialect, name, json.dumps(value).encode()))
        assert (error and error.param) == name, value


LABELS: list[tuple[str, list[object], list[object]]] = [
    ("metadata", [{}, {"a": "b"}], [{"a": 1}, [], "x", dict.fromkeys("abcdefghijklmnopq", "")]),
    ("safety_identifier", ["", "x" * 64], ["x" * 65, 1]),
    ("prompt_cache_key", ["x"], [1]),
    ("service_tier", ["auto", "default"], ["flex", "priority", "", 1]),
    ("max_completion_tokens", [1, 2**31 - 1], [0, 2**31]),
]


@pytest.mark.parametrize(("name", "served", "refused"), LABELS, ids=[name for name, _, _ in LABELS])
def test_fields_of_chat_alone(name: str, served: list[object], refused: list[object]) -> None:
    for value in served:
        assert refusal("chat", with_raw("chat", name, json.dumps(value).encode())) is None, value
    for value in refused:
        error = refusal("chat", with_raw("chat", name, json.dumps(value).encode()))
        assert error is not None, value
        assert (error.param or "").partition(".")[0] == name


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"model": 1}', b"\xff", b"[" * 100_000])
async def test_a_bad_body_is_400_and_the_server_goes_on(raw: bytes) -> None:
    house = House()
    reply = await house.post(CHAT_PATH, raw)
    assert reply.status_code == 400
    assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
    assert (await house.post(CHAT_PATH, CHAT_BODY)).status_code == 200
