"""A real server in a control group that holds less than the weights: told, slow and right, or refused with numbers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_registry.sources.bundled import BUNDLED_ID, locate_bundled
from tests.fixtures.memory_group import MemoryGroup
from tests.server.nibble_process import ServerUnderTest, run_nibble

WIDE = "wide"
LIMIT_BYTES = 420_000_000
"""Less than the 540 MB of the bundled model's weights as 32-bit numbers; server and worker take some 150 MB besides."""
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(MemoryGroup.hindrance()), reason=MemoryGroup.hindrance()),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the bundled model's weights at their full width, none of them in the page cache."""
    path = tmp_path_factory.mktemp("home")
    made = run_nibble(path, "quantize", BUNDLED_ID, "--to", "F32", "--name", WIDE, "--allow-requantize")
    assert made.returncode == 0, made.stderr
    # A page that is cached already belongs to whoever read it first, and not to the group.
    descriptor = os.open(path / "models" / f"{WIDE}.gguf", os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return path


def ask(server: ServerUnderTest, model: str) -> tuple[int, dict[str, object]]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 3,
        "temperature": 0,
    }
    with server.open("/v1/chat/completions", json.dumps(body).encode()) as response:
        return response.status, json.loads(response.read())


def test_weights_that_exceed_the_memory_are_mapped_told_and_right(home: Path) -> None:
    with (
        MemoryGroup("little", LIMIT_BYTES) as group,
        ServerUnderTest(home, real_engine=True, group=group, NIBBLE_PRELOAD=WIDE) as server,
    ):
        status, small = ask(server, WIDE)
        assert status == 200, small
        server.signal(signal.SIGTERM)
        code, warning = server.end()
        assert code == 0
    assert "this machine lends 0." in warning
    assert re.search(
        r"its weights will be read from the disk for every token, at some [\d.,]+ s a token: just now the disk read"
        r" [\d.,]+ MB/s",
        warning,
    ), warning
    with ServerUnderTest(home, real_engine=True, NIBBLE_PRELOAD=WIDE) as server:
        assert ask(server, WIDE)[1]["choices"] == small["choices"], "little memory changes no answer"


def test_what_can_never_be_loaded_is_refused_and_the_server_lives_on(home: Path) -> None:
    """A cache that exceeds the memory cannot be read again from a file, as weights can."""
    with (
        MemoryGroup("little", LIMIT_BYTES) as group,
        ServerUnderTest(
            home, real_engine=True, group=group, NIBBLE_PRELOAD=WIDE, NIBBLE_KV_BUDGET="1GiB"
        ) as server,
    ):
        status, told = ask(server, WIDE)
        assert status == 503, told
        message = json.dumps(told)
        assert f"model '{WIDE}' needs about 1681 MB and" in message
        assert "MB are free, and no model that is idle could make the room" in message
        assert server.status("/v1/models") == 200


def test_models_that_load_at_once_take_no_more_than_there_is(tmp_path: Path) -> None:
    """Each engine takes a share of what it finds for its cache, and finds what the others have not taken yet."""
    bundled = locate_bundled()
    assert bundled is not None
    names = ("one", "two", "three", "four")
    (tmp_path / "models").mkdir()
    for name in names:
        shutil.copy(bundled, tmp_path / "models" / f"{name}.gguf")
    with (
        MemoryGroup("several", 1_500_000_000) as group,
        ServerUnderTest(
            tmp_path, real_engine=True, group=group, NIBBLE_PRELOAD="one", NIBBLE_THREADS="1"
        ) as server,
        ThreadPoolExecutor(3) as pool,
    ):
        told = list(pool.map(lambda name: ask(server, name), names[1:]))
        assert [status for status, _ in told] == [200, 200, 200], told
        server.signal(signal.SIGTERM)
        code, log = server.end()
    assert code == 0
    assert "SIGKILL" not in log
