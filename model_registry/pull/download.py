"""Fetching one file: continued after every interruption, checked, and named when it is whole."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx

from model_registry.blobs import Blobs, kept_digest
from model_registry.pull.file_lock import file_lock
from model_registry.pull.partial_file import PartialFile, PartialState, url_digest
from model_registry.pull.pull_error import PullCancelled, PullError
from model_registry.pull.remote_file import RemoteFile, shown
from model_registry.pull.transfer import TryAgain, opened, sizes, strong_validator
from model_registry.sources.gguf_header import header_problem

_SPARE_BYTES = 64 << 20
"""Disk that is left alone: a full disk harms more than a download that does not happen."""
_MOST_FAILURES = 5
"""Attempts in a row that bring no byte."""
Progress = Callable[[int, int | None], None]
"""Bytes that are here, and bytes that there will be, if that is known."""
Admit = Callable[[int], None]
"""Told the size of a file once it is known, before its first byte; raises PullError where it must not come."""
Sleep = Callable[[float], object]


def check_disk(directory: Path, name: str, missing_bytes: int) -> None:
    """Raises PullError unless ``directory`` has room for ``missing_bytes`` more."""
    free = shutil.disk_usage(directory).free
    if missing_bytes + _SPARE_BYTES > free:
        raise PullError(
            f"{name} needs {missing_bytes / 1e6:,.0f} MB of disk more, and {directory} has"
            f" {free / 1e6:,.0f} MB free: make room, or name another --models-dir"
        )


class Download:
    """Fetches into one directory. Owned by one thread; other processes may fetch the same."""

    def __init__(
        self,
        directory: Path,
        client: httpx.Client,
        *,
        say: Callable[[str], None] = lambda text: None,
        admit: Admit = lambda size: None,
        cancel: threading.Event | None = None,
        sleep: Sleep | None = None,
    ) -> None:
        """``say`` is told, in a sentence, why it takes longer. ``cancel`` is looked at between pieces and pauses."""
        self._directory = directory
        self._client = client
        self._say = say
        self._admit = admit
        self._cancel = cancel or threading.Event()
        self._sleep = sleep or self._cancel.wait

    def fetch(self, file: RemoteFile, progress: Progress = lambda here, whole: None) -> Path:
        """The file, fetched unless it is there.

        Raises PullError, and PullCancelled; what is here by then is continued next time.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = self._directory / f".{file.name}.lock"
            waiting = f"{file.name} is being fetched by another process"
            with file_lock(lock, lambda: self._say(waiting), self._cancel):
                target = self._directory / file.name
                if target.exists():
                    # Whoever had the lock before may have fetched it.
                    return self._present(target, file, progress)
                return self._known(file, progress) or self._fetch(file, progress)
        except OSError as error:
            raise PullError(
                f"{error.filename or self._directory} cannot be written ({error.strerror})"
            ) from error

    def _present(self, target: Path, file: RemoteFile, progress: Progress) -> Path:
        size = target.stat().st_size
        is_other = None not in (file.sha256, kept := kept_digest(target)) and kept != file.sha256
        if is_other or (file.file_bytes is not None and size != file.file_bytes):
            raise PullError(
                f"{target} is there, and is not the file of that address: remove it, or rename it"
            )
        # Of a pull that was killed when the file had just got its name.
        PartialFile(self._directory, file.name).discard()
        progress(size, size)
        return target

    def _known(self, file: RemoteFile, progress: Progress) -> Path | None:
        """The file, under one more name, if its bytes are here already."""
        blobs = Blobs(self._directory)
        if file.is_package or file.sha256 is None or not blobs.has(file.sha256, file.file_bytes):
            return None
        PartialFile(self._directory, file.name).discard()
        path = blobs.name(file.sha256, file.name)
        size = path.stat().st_size
        progress(size, size)
        return path

    def _fetch(self, file: RemoteFile, progress: Progress) -> Path:
        part = PartialFile(self._directory, file.name)
        failures, before = 0, part.size()
        while not self._try(part, file, progress):
            failures = 0 if part.size() > before else failures + 1
            before = part.size()
            if failures >= _MOST_FAILURES:
                raise PullError(
                    f"{file.address} cannot be fetched now: run the command again, and it goes on"
                )
            self._sleep(min(2.0**failures, 30.0) if failures else 0.0)
            self._stop_if_cancelled()
        digest = self._check(part, file)
        return part.finish() if file.is_package else part.keep(digest)

    def _try(self, part: PartialFile, file: RemoteFile, progress: Progress) -> bool:
        """Fetch what is missing; whether that is all now. Raises PullError where no further attempt can help."""
        state, offset = part.state(), part.size()
        can_resume = (
            state is not None and state.url_sha256 == url_digest(file.url) and state.validator is not None
        )
        if not can_resume:
            offset = 0
        elif state is not None and state.file_bytes is not None and offset >= state.file_bytes:
            return True
        try:
            validator = state.validator if state is not None else None
            with opened(self._client, file, offset, validator) as response:
                if response.status_code == 416:
                    part.discard()
                    raise TryAgain("the server knows no such part of the file")
                return self._receive(part, file, response, offset, progress)
        except (httpx.TransportError, TryAgain) as error:
            self._say(f"{file.name}: {str(error) or type(error).__name__}; trying again")
            return False

    def _receive(
        self, part: PartialFile, file: RemoteFile, response: httpx.Response, offset: int, progress: Progress
    ) -> bool:
        begin, whole = sizes(response)
        if begin not in (0, offset):
            raise TryAgain("the server sends another part than it was asked for")
        before = part.state()
        if begin and before is not None and not before.fits(strong_validator(response), whole):
            # A server that does not know If-Range sends the end of what has changed in between.
            part.discard()
            raise TryAgain("the file on the server has changed")
        if file.file_bytes is not None and whole is not None and whole != file.file_bytes:
            raise PullError(
                f"{file.address} has {whole} bytes instead of {file.file_bytes}: it has changed, pull it again later"
            )
        whole = file.file_bytes if whole is None else whole
        if whole is not None:
            check_disk(self._directory, file.name, whole - begin)
            self._admit(whole)
        state = PartialState(
            url_sha256=url_digest(file.url), validator=strong_validator(response), file_bytes=whole
        )
        with part.resume() if begin else part.restart(state) as out:
            here = self._copy(response, out, begin, whole, progress)
        # Without a length there is only the end of the body, which httpx tells from a broken connection.
        return whole is None or here == whole

    def _copy(
        self, response: httpx.Response, out: IO[bytes], here: int, whole: int | None, progress: Progress
    ) -> int:
        progress(here, whole)
        # In the pieces that come: gathered to a size, what had come would be lost with the connection.
        for chunk in response.iter_raw():
            self._stop_if_cancelled()
            if whole is not None and here + len(chunk) > whole:
                raise PullError(
                    f"{shown(str(response.url))} sends more than the {whole} bytes it has: take another address"
                )
            out.write(chunk)
            here += len(chunk)
            progress(here, whole)
        return here

    def _stop_if_cancelled(self) -> None:
        if self._cancel.is_set():
            raise PullCancelled("the pull was cancelled: run the command again, and it goes on")

    def _check(self, part: PartialFile, file: RemoteFile) -> str:
        """The digest of what came. Raises PullError where that is not what it should be."""
        digest = part.sha256(self._cancel)
        if file.sha256 is not None and digest != file.sha256:
            part.discard()
            raise PullError(
                f"{file.address} came with other bytes than it should (SHA-256 {digest}): pull it again"
            )
        if not file.is_package and (problem := header_problem(part.path)):
            part.discard()
            raise PullError(problem.replace(str(part.path), file.address))
        return digest
