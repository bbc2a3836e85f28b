"""Downloads from servers that drop, stall, redirect, lie about length and change content."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from model_registry.blobs import FOLDER
from model_registry.pull.download import Download
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile
from model_registry.pull.transfer import opened
from tests.model_registry.pull.file_server import (
    FileServer,
    Handler,
    answers,
    changes_to,
    claims,
    drops_after,
    file_server,
    forgets_if_range,
    honest,
    redirects_to,
    stalls_after,
    without_length,
)

_HEAD = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8)
CONTENT = _HEAD + random.Random(1).randbytes(300_000)
OTHER = _HEAD + random.Random(2).randbytes(280_000)


@pytest.fixture
def server() -> Generator[FileServer]:
    with file_server(CONTENT) as started:
        yield started


@pytest.fixture
def client() -> Generator[httpx.Client]:
    with httpx.Client(timeout=httpx.Timeout(20.0, read=0.5), trust_env=False) as made:
        yield made


class House:
    def __init__(self, directory: Path, client: httpx.Client) -> None:
        self.directory = directory
        self.said: list[str] = []
        self.slept: list[float] = []
        self.seen: list[tuple[int, int | None]] = []
        self.download = Download(directory, client, say=self.said.append, sleep=self.slept.append)

    def fetch(self, url: str, **known: object) -> Path:
        file = RemoteFile(url=url, name="model.gguf", **known)  # type: ignore[arg-type]
        return self.download.fetch(file, lambda here, whole: self.seen.append((here, whole)))

    def files(self) -> list[str]:
        return sorted(
            path.name for path in self.directory.iterdir() if not path.name.endswith((".lock", FOLDER))
        )


@pytest.fixture
def house(tmp_path: Path, client: httpx.Client) -> House:
    return House(tmp_path, client)


def test_a_file_is_fetched_once(house: House, server: FileServer) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = house.fetch(server.url, sha256=digest, file_bytes=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert house.files() == ["model.gguf"]
    assert house.seen[-1] == (len(CONTENT), len(CONTENT))
    assert house.fetch(server.url, file_bytes=len(CONTENT)) == path
    assert len(server.seen) == 1
    with pytest.raises(PullError, match="remove it, or rename it"):
        house.fetch(server.url, file_bytes=5)


def test_what_was_dropped_is_continued_by_range(house: House, server: FileServer) -> None:
    server.steps = [drops_after(100_000), drops_after(100_000)]
    assert house.fetch(server.url).read_bytes() == CONTENT
    assert [seen.get("range") for seen in server.seen] == [None, "bytes=100000-", "bytes=200000-"]
    assert {seen.get("if-range") for seen in server.seen[1:]} == {'"one"'}
    assert house.slept == [0.0, 0.0], "what goes forward need not wait"


def test_a_server_that_stalls_is_asked_again(house: House, server: FileServer) -> None:
    server.steps = [stalls_after(50_000)]
    assert house.fetch(server.url).read_bytes() == CONTENT
    assert server.seen[1]["range"] == "bytes=50000-"
    assert "trying again" in house.said[0]


def test_a_server_that_never_gets_further_is_given_up_and_the_part_kept(
    house: House, server: FileServer
) -> None:
    server.steps = [drops_after(100_000), *[answers(503)] * 20]
    with pytest.raises(PullError, match="run the command again, and it goes on"):
        house.fetch(server.url)
    assert house.slept[-1] > house.slept[1] > 0, "each pause is longer"
    server.steps = []
    assert house.fetch(server.url).read_bytes() == CONTENT
    assert server.seen[-1]["range"] == "bytes=100000-"


def test_a_server_without_strong_etags_is_asked_for_the_whole_again(house: House, server: FileServer) -> None:
    server.etag = 'W/"weak"'
    server.steps = [drops_after(100_000)]
    assert house.fetch(server.url).read_bytes() == CONTENT
    assert "range" not in server.seen[1]


def test_a_file_that_changed_in_between_is_fetched_anew(house: House, server: FileServer) -> None:
    server.steps = [drops_after(100_000), changes_to(OTHER)]
    assert house.fetch(server.url).read_bytes() == OTHER


def test_the_end_of_another_file_is_not_put_behind_the_beginning_of_ours(
    house: House, server: FileServer
) -> None:
    def begin(handler: Handler) -> None:
        drops_after(100_000)(handler)
        server.content = OTHER

    server.steps = [begin, forgets_if_range]
    assert house.fetch(server.url).read_bytes() == OTHER
    assert any("has changed" in text for text in house.said)


def test_a_wrong_digest_is_told_and_nothing_is_left(house: House, server: FileServer) -> None:
    with pytest.raises(PullError, match="came with other bytes than it should"):
        house.fetch(server.url, sha256="00" * 32)
    assert house.files() == []


def test_a_length_that_is_not_the_published_one_is_refused(house: House, server: FileServer) -> None:
    with pytest.raises(PullError, match="has 300024 bytes instead of 7: it has changed"):
        house.fetch(server.url, file_bytes=7)


def test_a_length_that_is_too_short_is_found_by_the_digest(house: House, server: FileServer) -> None:
    server.steps = [claims(1000)]
    with pytest.raises(PullError, match="other bytes"):
        house.fetch(server.url, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert house.fetch(server.url).read_bytes() == CONTENT


def test_a_body_without_a_length_ends_with_the_connection(house: House, server: FileServer) -> None:
    server.steps = [without_length]
    assert house.fetch(server.url).read_bytes() == CONTENT
    assert house.seen[-1] == (len(CONTENT), None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>please log in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"PK\x03\x04 a zip file", "is not a GGUF file"),
    ],
)
def test_what_is_no_model_is_not_kept(house: House, server: FileServer, content: bytes, words: str) -> None:
    server.content = content
    with pytest.raises(PullError, match=words) as caught:
        house.fetch(server.url)
    assert server.url in str(caught.value)
    assert house.files() == []


@pytest.mark.parametrize(("status", "words"), [(401, "HF_TOKEN"), (403, "licence"), (404, "no such file")])
def test_a_refusal_is_final_and_names_the_mend(
    house: House, server: FileServer, status: int, words: str
) -> None:
    server.steps = [answers(status)]
    with pytest.raises(PullError, match=words):
        house.fetch(server.url)
    assert len(server.seen) == 1


def test_credentials_do_not_follow_to_another_origin(house: House, server: FileServer) -> None:
    with file_server(CONTENT) as other:
        server.steps = [redirects_to("/again.gguf"), redirects_to(other.url)]
        house.fetch(server.url, headers={"authorization": "Bearer secret"})
        assert [seen.get("authorization") for seen in server.seen] == ["Bearer secret"] * 2
        assert "authorization" not in other.seen[0]
        assert server.seen[1][":path"] == "/again.gguf"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_to_what_is_not_the_web_are_refused(house: House, server: FileServer, target: str) -> None:
    server.steps = [redirects_to(target)]
    with pytest.raises(PullError, match="redirects to"):
        house.fetch(server.url)


@pytest.mark.parametrize("between", [[], ["https://cdn.example/file"], ["/moved"]])
def test_nobody_is_led_from_encryption_back_to_none(between: list[str]) -> None:
    asked: list[httpx.Request] = []
    targets = iter([*between, "http://plain.example/file"])

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(302, headers={"location": next(targets)})

    file = RemoteFile(
        url="https://hub.example/file", name="m.gguf", headers={"authorization": "Bearer secret"}
    )
    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        pytest.raises(PullError, match="not encrypted"),
        opened(client, file, 0, None),
    ):
        pass
    assert [request.url.scheme for request in asked] == ["https"] * (1 + len(between))
    for request in asked:
        assert ("authorization" in request.headers) is (request.url.host == "hub.example")


def test_redirects_without_end_are_refused(house: House, server: FileServer) -> None:
    server.steps = [redirects_to("/model.gguf")] * 50
    with pytest.raises(PullError, match="without end"):
        house.fetch(server.url)


def test_a_full_disk_is_told_before_a_byte_is_fetched(
    house: House, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(PullError, match="MB of disk more"):
        house.fetch(server.url)
    assert house.files() == []


def test_two_pulls_of_one_file_are_one(tmp_path: Path, client: httpx.Client, server: FileServer) -> None:
    entered, waited = threading.Event(), threading.Event()

    def slowly(handler: Handler) -> None:
        entered.set()
        assert waited.wait(30)
        honest(handler)

    server.steps = [slowly]
    first, second = House(tmp_path, client), House(tmp_path, client)
    second.download = Download(tmp_path, client, say=lambda text: waited.set())
    thread = threading.Thread(target=first.fetch, args=(server.url,))
    thread.start()
    assert entered.wait(30)
    assert second.fetch(server.url).read_bytes() == CONTENT
    thread.join()
    assert len(server.seen) == 1


def test_a_pull_that_was_killed_goes_on_where_it_ended(house: House, server: FileServer) -> None:
    program = (
        "import sys, httpx; from pathlib import Path\n"
        "from model_registry.pull.download import Download\n"
        "from model_registry.pull.remote_file import RemoteFile\n"
        "client = httpx.Client(timeout=60, trust_env=False)\n"
        "def progress(here, whole):\n"
        "    if here >= 100_000: print('here', flush=True)\n"
        "Download(Path(sys.argv[1]), client).fetch(RemoteFile(url=sys.argv[2], name='model.gguf'), progress)"
    )
    for end in (signal.SIGKILL, signal.SIGINT):
        server.steps = [stalls_after(100_000)]
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(house.directory), server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(end)
        process.wait(30)
        process.stdout.close()
        assert ".model.gguf.part" in house.files()
        assert "model.gguf" not in house.files()
    assert house.fetch(server.url).read_bytes() == CONTENT
    assert "range" in server.seen[-1]
