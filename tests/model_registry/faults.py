"""Work that dies, or whose disk fails, at each of its steps: whatever changes the disk is one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

DIED = 9
MOST_STEPS = 60


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


def die() -> NoReturn:
    os._exit(DIED)


def fail() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def dies_at(step: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process that ends at that step; whether it got that far."""
    child = os.fork()
    if child == 0:
        try:
            with Faults(step, die).injected():
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
