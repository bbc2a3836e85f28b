"""One at a time, over all processes of this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from model_registry.pull.pull_error import PullCancelled

_POLL_S = 0.1


@contextlib.contextmanager
def file_lock(
    path: Path, when_waiting: Callable[[], None] = lambda: None, cancel: threading.Event | None = None
) -> Generator[None]:
    """Hold the lock that ``path`` is. The kernel gives it back when its process ends, however it ends.

    ``when_waiting`` is called if somebody else has it. The file stays: only ``remove_lock`` may remove it, since who
    waits for it would hold another file than who comes later. Raises PullCancelled when ``cancel`` is set meanwhile.
    """
    cancel = cancel or threading.Event()
    descriptor = _open(path)
    try:
        is_waiting = False
        while not _is_taken(descriptor) or not _is_there(descriptor, path):
            if not is_waiting:
                when_waiting()
                is_waiting = True
            # Not a blocking call, which nothing but a signal could end.
            if cancel.wait(_POLL_S):
                raise PullCancelled("the pull was cancelled while it waited for another process")
            if not _is_there(descriptor, path):
                os.close(descriptor)
                descriptor = _open(path)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process has the lock now. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _is_taken(descriptor)
    finally:
        os.close(descriptor)


def remove_lock(path: Path) -> bool:
    """Remove a lock that nobody has. Whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not _is_taken(descriptor):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _is_taken(descriptor: int) -> bool:
    """Take the lock if nobody has it; whether it is ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(descriptor: int, path: Path) -> bool:
    """Whether the open file still has that name: a lock that was removed keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
