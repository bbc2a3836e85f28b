"""The saved prefixes of one model on disk, and an index of them in memory.

Each key has a directory of its own below one root, and the byte limit holds for the root: prefixes of models that
are served no more are the longest unused, and go first. What is on disk is the truth, and is looked at before
every write; the index may name a file that another worker has removed, and then it is not found and forgotten.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.backend import SlotState, Tokens
from engine.disk import prefix_file
from engine.disk.file_system import FileFacts, FileSystem
from engine.disk.prefix_file import DamagedPrefix, Header
from engine.prefix_store import HEAD_TOKENS, common_length

_logger = logging.getLogger("nibble.worker")
_ENDING = ".prefix"
_UNFINISHED_ENDING = ".part"


def holds_prefixes(root: Path, key: str) -> bool:
    """Whether a file of ``key`` lies below ``root``, sound or not."""
    return any((root / key).glob(f"*{_ENDING}"))


@dataclass(frozen=True, slots=True, eq=False)
class DiskPrefix:
    """A prefix that has a file."""

    tokens: Tokens
    header: Header = field(repr=False)

    def shared(self, prompt: Tokens) -> int:
        """How many tokens from the start ``prompt`` has in common with this."""
        return common_length(self.tokens, prompt)


class PrefixDirectory:
    """Reads, writes and finds the prefixes of one key. May be called from any thread: a lock guards the index."""

    def __init__(
        self,
        root: Path,
        key: str,
        limit_bytes: int,
        *,
        system: FileSystem | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root = root
        self._key = key
        self._path = root / key
        self._limit_bytes = limit_bytes
        self._system = system or FileSystem()
        self._clock_ns = clock_ns
        self._unfinished = itertools.count()
        self._lock = threading.Lock()
        self._prefixes: dict[str, DiskPrefix] = {}
        self._by_head: dict[tuple[str, bytes], dict[str, DiskPrefix]] = {}

    def __len__(self) -> int:
        return len(self._prefixes)

    def open(self) -> None:
        """Make the directory, read the headers of its files, and remove what is damaged or was left unfinished.

        Raises OSError where the directory cannot be written.
        """
        self._system.make_directory(self._root)
        self._system.make_directory(self._path)
        if not os.access(self._path, os.W_OK | os.X_OK):
            raise PermissionError(f"{self._path} cannot be written")
        # A lower limit than before holds from the start.
        self._make_room(0, self._clock_ns())
        for file in self._system.files_in(self._path):
            if file.path.suffix == _UNFINISHED_ENDING:
                self._remove_abandoned(file.path)
            elif file.path.suffix == _ENDING:
                self._read_header(file)

    def _remove_abandoned(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if self._system.is_abandoned(path):
                self._system.remove(path)

    def _read_header(self, facts: FileFacts) -> None:
        try:
            with self._system.open(facts.path) as file:
                header = prefix_file.read_header(file, facts.size_bytes)
            if header.key != self._key or header.address != facts.path.stem:
                raise DamagedPrefix("it is the file of another prefix")
        except FileNotFoundError:
            return
        except (DamagedPrefix, OSError) as error:
            self._remove_damaged(facts.path, error)
        else:
            self._add(header)

    def match(self, prompt: Tokens, scope: str, *, most_tokens: int, most_bytes: int) -> DiskPrefix | None:
        """The prefix in ``scope`` that shares most with ``prompt``, of those that fit into a slot and in memory."""
        fitting = (
            prefix
            for prefix in self._candidates(prompt, prefix_file.hash_scope(scope))
            if len(prefix.tokens) <= most_tokens and prefix.header.state_bytes <= most_bytes
        )
        return max(fitting, key=lambda prefix: prefix.shared(prompt), default=None)

    def read(self, prefix: DiskPrefix) -> SlotState | None:
        """The state of ``prefix``, which counts as used; None, and the file is gone, if it is not what was written."""
        path = self._path_of(prefix.header)
        try:
            with self._system.open(path) as file:
                state = prefix_file.read_state(file, os.fstat(file.fileno()).st_size, prefix.header)
        except FileNotFoundError:
            self.forget(prefix)
            return None
        except (DamagedPrefix, OSError) as error:
            self.forget(prefix)
            self._remove_damaged(path, error)
            return None
        except MemoryError:
            return None
        self.touch(prefix)
        return state

    def holder(self, tokens: Tokens, scope: str) -> DiskPrefix | None:
        """A prefix that holds all of ``tokens``, as far as the index knows. Does not look at the disk."""
        candidates = self._candidates(tokens, prefix_file.hash_scope(scope))
        return next((prefix for prefix in candidates if prefix.shared(tokens) == len(tokens)), None)

    def touch(self, prefix: DiskPrefix) -> None:
        """Count ``prefix`` as used."""
        try:
            self._system.set_used(self._path_of(prefix.header), self._clock_ns())
        except FileNotFoundError:
            self.forget(prefix)
        except OSError:
            # It is removed somewhat earlier than it should be.
            return

    def write(
        self,
        tokens: Tokens,
        scope: str,
        state: SlotState,
        *,
        used_ns: int | None = None,
        is_late: Callable[[], bool] = lambda: False,
    ) -> int:
        """Save ``state``, of a slot that holds ``tokens``; return the bytes written, 0 if it has no room.

        ``used_ns`` is when it was last used; nothing used later is removed for it. ``is_late`` is asked between
        pieces, and gives up. Whatever fails, the file is the old one or the new one, or there is none. Raises
        OSError.
        """
        header = prefix_file.make_header(self._key, scope, tokens, state)
        size = prefix_file.file_bytes(header)
        used_ns = self._clock_ns() if used_ns is None else used_ns
        if not self._make_room(size, used_ns):
            return 0
        unfinished = (
            self._path / f"{header.address}.{os.getpid()}-{next(self._unfinished)}{_UNFINISHED_ENDING}"
        )
        try:
            if not self._write_file(unfinished, header, state, used_ns, is_late):
                self._system.remove(unfinished)
                return 0
            self._system.rename(unfinished, self._path_of(header))
        except OSError:
            with contextlib.suppress(OSError):
                self._system.remove(unfinished)
            raise
        # From here on the file is there, whether or not its name would outlive a power cut.
        self._add(header)
        self._remove_beginnings(header)
        self._system.sync_directory(self._path)
        return size

    def _write_file(
        self, path: Path, header: Header, state: SlotState, used_ns: int, is_late: Callable[[], bool]
    ) -> bool:
        """Whether there was time to write all of it."""
        self._system.make_directory(self._path)
        descriptor = self._system.create(path)
        try:
            for piece in prefix_file.pieces(header, state):
                if is_late():
                    return False
                self._system.write(descriptor, piece)
            self._system.set_used(descriptor, used_ns)
            self._system.sync(descriptor)
        finally:
            self._system.close(descriptor)
        return True

    def forget(self, prefix: DiskPrefix) -> None:
        """Find ``prefix`` no more. Does not touch the disk."""
        self._forget_name(prefix.header.address)

    def remove(self, prefix: DiskPrefix) -> None:
        """Forget ``prefix``, and remove its file."""
        self.forget(prefix)
        with contextlib.suppress(OSError):
            self._system.remove(self._path_of(prefix.header))

    def _remove_beginnings(self, header: Header) -> None:
        """Remove the files whose tokens are the beginning of those of ``header``: that one serves for them too."""
        tokens = header.read_tokens()
        for prefix in self._candidates(tokens, header.scope):
            if len(prefix.tokens) < len(tokens) and prefix.shared(tokens) == len(prefix.tokens):
                self.remove(prefix)

    def _make_room(self, size_bytes: int, used_ns: int) -> bool:
        """Remove files, the longest unused first, until ``size_bytes`` more keep the limit. False if they do not."""
        if size_bytes > self._limit_bytes:
            return False
        files = sorted(self._system.files(self._root), key=lambda file: file.used_ns)
        excess = sum(file.size_bytes for file in files) + size_bytes - self._limit_bytes
        victims: list[FileFacts] = []
        for file in files:
            if excess <= 0:
                break
            if file.used_ns > used_ns:
                return False
            victims.append(file)
            excess -= file.size_bytes
        for file in victims:
            self._system.remove(file.path)
            if file.path.parent == self._path:
                self._forget_name(file.path.stem)
            else:
                # A key without files is a model or a setting that is gone.
                self._system.remove_directory(file.path.parent)
        return True

    def _remove_damaged(self, path: Path, error: Exception) -> None:
        _logger.warning("the saved prefix %s is removed: %s", path.name, error)
        with contextlib.suppress(OSError):
            self._system.remove(path)

    def _path_of(self, header: Header) -> Path:
        return self._path / (header.address + _ENDING)

    # -- the index ------------------------------------------------------------------------------------------------

    def _candidates(self, tokens: Tokens, hashed_scope: str) -> list[DiskPrefix]:
        with self._lock:
            return list(self._by_head.get((hashed_scope, tokens[:HEAD_TOKENS].tobytes()), {}).values())

    def _add(self, header: Header) -> None:
        prefix = DiskPrefix(header.read_tokens(), header)
        head = (header.scope, prefix.tokens[:HEAD_TOKENS].tobytes())
        with self._lock:
            self._prefixes[header.address] = prefix
            self._by_head.setdefault(head, {})[header.address] = prefix

    def _forget_name(self, name: str) -> None:
        with self._lock:
            prefix = self._prefixes.pop(name, None)
            if prefix is None:
                return
            head = (prefix.header.scope, prefix.tokens[:HEAD_TOKENS].tobytes())
            del self._by_head[head][name]
            if not self._by_head[head]:
                del self._by_head[head]
