"""``nibble serve`` as a person starts it: the real engine and the bundled model."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import ServerUnderTest

pytestmark = pytest.mark.model

SMALL = {"NIBBLE_CONTEXT": "512", "NIBBLE_PARALLEL": "2"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    data = tmp_path_factory.mktemp("data")
    (data / "models").mkdir()
    # Bad in a way that only the worker finds out.
    write_gguf(data / "models" / "cut.gguf", tail=b"no tensor")
    with ServerUnderTest(
        data, real_engine=True, NIBBLE_PRELOAD="smollm2-135m-instruct", variables=SMALL
    ) as running:
        running.wait_until_loaded()
        yield running


def test_the_banner_tells_what_the_engine_chose(server: ServerUnderTest) -> None:
    text = "\n".join(server.printed)
    assert "512 tokens a request of 8,192 trained" in text
    assert "2 requests at once" in text
    assert "backend     CPU (" in text


def test_the_curl_line_works_as_it_is_printed(server: ServerUnderTest) -> None:
    (line,) = [line for line in server.printed if line.startswith("curl ")]
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(result.stdout)["choices"][0]["message"]["content"]


def test_the_snippet_works_as_it_is_printed(server: ServerUnderTest) -> None:
    begin = server.printed.index("from openai import OpenAI")
    program = "\n".join(server.printed[begin : begin + 4])
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip()


def test_a_file_that_only_the_worker_finds_broken_harms_nobody(server: ServerUnderTest) -> None:
    body = json.dumps({"model": "cut", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    for _ in range(2):
        with server.open("/v1/chat/completions", body) as response:
            error = json.loads(response.read())["error"]
            assert (response.status, error["code"]) == (500, "model_load_failed")
            assert response.headers["x-should-retry"] == "false"
    assert server.status("/ready") == 200


def test_nothing_wakes_up_while_nobody_asks(server: ServerUnderTest) -> None:
    """A timer that looks whether there is something to do takes CPU for ever; counted, not timed."""
    api = psutil.Process(server.pid)
    body = json.dumps({"model": "smollm2-135m-instruct", "prompt": "a", "max_tokens": 2, "stream": True})
    with server.open("/v1/completions", body.encode()) as response:
        response.read()
    processes = [api, *api.children(recursive=True)]

    def wake_ups() -> int:
        before = sum(process.num_ctx_switches().voluntary for process in processes)
        time.sleep(2.0)
        return sum(process.num_ctx_switches().voluntary for process in processes) - before

    # A timer would be in every count; the end of the request's own connection, on a busy machine, in the first.
    counts = list(itertools.takewhile(lambda count: count > 8, (wake_ups() for _ in range(5))))
    assert len(counts) < 5, counts


def _check_gone(workers: list[psutil.Process]) -> None:
    # A worker's own helper outlives it by a moment; whoever is then its parent may be slow to bury it.
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_nothing_is_left_when_it_ends(tmp_path: Path, number: signal.Signals, status: int) -> None:
    with ServerUnderTest(tmp_path, real_engine=True, variables=SMALL) as running:
        running.wait_until_loaded()
        workers = psutil.Process(running.pid).children(recursive=True)
        assert workers
        running.signal(number)
        code, errors = running.end()
    assert code == status
    assert "Traceback" not in errors
    _check_gone(workers)


def test_it_ends_cleanly_while_it_still_loads(tmp_path: Path) -> None:
    with ServerUnderTest(tmp_path, real_engine=True, variables=SMALL) as running:
        while running.status("/health") != 200:
            pass
        workers = psutil.Process(running.pid).children(recursive=True)
        running.signal(signal.SIGINT)
        code, errors = running.end()
    assert code == 130
    assert "Traceback" not in errors
    _check_gone(workers)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_nothing_is_left_when_it_ends_before_it_serves(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """The model loads already while the rest of the server is imported, which nobody can interrupt."""
    with ServerUnderTest(tmp_path, real_engine=True, variables=SMALL) as running:
        workers: list[psutil.Process] = []
        while not workers:
            workers = psutil.Process(running.pid).children(recursive=True)
        running.signal(number)
        code, errors = running.end()
    assert code == status
    assert "Traceback" not in errors
    _check_gone(workers)
