from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from server.log import StandardLibraryBridge, configure_log
from server.request_record import CURRENT, RequestRecord


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    structlog.reset_defaults()


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_nobody_looks_and_one_object_a_line() -> None:
    stream = io.StringIO()
    configure_log("auto", "info", stream)
    structlog.get_logger().info("loaded", model="alpha", text="two\nlines")
    structlog.get_logger().debug("not told")
    (line,) = written(stream)
    assert (line["event"], line["model"], line["text"], line["level"]) == (
        "loaded",
        "alpha",
        "two\nlines",
        "info",
    )
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("caf\u00e9", "caf\u00e9"),
        ("of a name \udcff", "of a name \udcff"),
        (2**70, 2**70),
        ((1, "b"), [1, "b"]),
        (Path("a/b"), repr(Path("a/b"))),
    ],
)
def test_whatever_is_told_is_a_line_of_ascii(value: object, expected: object) -> None:
    stream = io.StringIO()
    configure_log("json", "info", stream)
    structlog.get_logger().info("told", value=value)
    assert stream.getvalue().isascii()
    assert [line["value"] for line in written(stream)] == [expected]


def test_pretty_where_somebody_looks() -> None:
    stream = io.StringIO()
    configure_log("pretty", "info", stream)
    structlog.get_logger().info("loaded", model="alpha")
    assert "loaded" in stream.getvalue()
    assert "model=alpha" in stream.getvalue()


def test_libraries_log_into_the_same_stream() -> None:
    stream = io.StringIO()
    configure_log("json", "warning", stream)
    configure_log("json", "warning", stream)
    assert sum(isinstance(handler, StandardLibraryBridge) for handler in logging.getLogger().handlers) == 1
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble in %s", "paradise")
    (line,) = written(stream)
    assert (line["event"], line["logger"], line["level"]) == (
        "trouble in paradise",
        "some.library",
        "warning",
    )


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_a_traceback_shows_no_values(log_format: str) -> None:
    stream = io.StringIO()
    configure_log("json" if log_format == "json" else "pretty", "info", stream)
    prompt = "what nobody else shall read"
    try:
        raise ValueError(len(prompt))
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError" in stream.getvalue()
    assert prompt not in stream.getvalue().replace(f'prompt = "{prompt}"', "")


def test_lines_written_inside_a_request_carry_its_id() -> None:
    stream = io.StringIO()
    configure_log("json", "info", stream)
    token = CURRENT.set(RequestRecord("req_7"))
    structlog.get_logger().info("inside")
    CURRENT.reset(token)
    structlog.get_logger().info("outside")
    inside, outside = written(stream)
    assert inside["request_id"] == "req_7"
    assert "request_id" not in outside


def test_a_log_that_cannot_be_written_fails_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    configure_log("json", "info", Full())
    structlog.get_logger().info("lost")
    logging.getLogger("some.library").warning("lost, too")
