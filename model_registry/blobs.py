"""Files that nibble itself fetches or makes: each lies once, named by the digest of its bytes.

The bytes are at ``.blobs/sha256-HEX`` in the models directory, where no source looks; a name there is a symbolic link
to them. So one content under two names is one file, the parts of a split model keep the names by which llama.cpp finds
them, and the directory can be moved, or be mounted elsewhere, as a whole. What people put there themselves is left as
it is. Names are links and no lines of the store, because a lost store is to lose words and no models.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Generator
from pathlib import Path

from engine.disk.file_system import FileSystem
from model_registry.pull.file_lock import file_lock

FOLDER = ".blobs"
_LOCK = ".lock"
_NAME = re.compile(r"sha256-([0-9a-f]{64})")
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without symbolic links (exFAT) say to one."""


class Blobs:
    """Those of one models directory. Any thread and any process may use it; every method raises OSError.

    A process that is killed leaves the state before, the state after, or a blob that no name leads to: ``strays``.
    """

    def __init__(self, models_dir: Path, system: FileSystem | None = None) -> None:
        self._models_dir = models_dir
        self._folder = models_dir / FOLDER
        self._system = system or FileSystem()

    def path(self, digest: str) -> Path:
        """Where the file of that SHA-256 (hex) lies, or would."""
        return self._folder / f"sha256-{digest}"

    def has(self, digest: str, file_bytes: int | None) -> bool:
        """Whether that file is here; of that length, where it is known."""
        try:
            return self.path(digest).stat().st_size == file_bytes or file_bytes is None
        except FileNotFoundError:
            return False

    def keep(self, file: Path, digest: str, name: str) -> Path:
        """Take in ``file``, which is on the medium and has that digest, as ``name`` of the models directory.

        It must lie on the same file system; it is gone then, also where its bytes were here already, unless the disk
        fails at that: with its name it is kept, and who makes such files removes what was left of them. Raises
        FileExistsError where the name is another file's. Whatever it raises, ``file`` is there as before.
        """
        with self._locked():
            blob = self.path(digest)
            is_new = not self.has(digest, file.stat().st_size)
            try:
                if is_new:
                    self._system.rename(file, blob)
                    self._system.sync_directory(self._folder)
                path = self._link(digest, name)
            except OSError:
                if is_new and not file.exists():
                    self._system.rename(blob, file)
                raise
            with contextlib.suppress(OSError):
                self._system.remove(file)
            return path

    def name(self, digest: str, name: str) -> Path:
        """Let ``name``, too, lead to a blob that is here. Raises FileNotFoundError, and FileExistsError."""
        with self._locked():
            if not self.has(digest, None):
                raise FileNotFoundError(errno.ENOENT, "it was removed meanwhile", str(self.path(digest)))
            return self._link(digest, name)

    def remove(self, path: Path) -> None:
        """Remove a name of the models directory, and the blob that no other leads to. Any other file just goes."""
        digest = kept_digest(path)
        if digest is None or not self._folder.is_dir():
            self._system.remove(path)
            return
        with self._locked():
            self._system.remove(path)
            if self.path(digest) not in self._named():
                self._system.remove(self.path(digest))

    def strays(self) -> list[Path]:
        """Blobs that no name leads to: of pulls that were killed, and of names that somebody has removed."""
        named = self._named()
        return [path for path in self._all() if path not in named]

    def remove_stray(self, path: Path) -> bool:
        """Whether it is gone; False for one that a name leads to by now."""
        with self._locked():
            if path in self._named():
                return False
            self._system.remove(path)
        return True

    def _link(self, digest: str, name: str) -> Path:
        path = self._models_dir / name
        if path.is_symlink() and not path.exists():
            self._system.remove(path)  # it leads nowhere
        try:
            self._system.link(path, f"{FOLDER}/{self.path(digest).name}")
        except OSError as error:
            if error.errno not in _NO_LINKS or path.exists():
                raise
            # Without links there is one name for a file, and that is its own.
            self._system.rename(self.path(digest), path)
        try:
            self._system.sync_directory(self._models_dir)
        except OSError:
            # Whoever hears that it failed must not find it.
            self._system.remove(path)
            raise
        return path

    def _all(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
        return []

    def _named(self) -> set[Path]:
        """Blobs that something in the models directory leads to, however many links lie between."""
        folder = self._folder.resolve()
        targets = (path.resolve() for path in self._models_dir.iterdir() if path.is_symlink())
        return {self._folder / target.name for target in targets if target.parent == folder}

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """A blob between its own name and the first that leads to it is no stray."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self._folder / _LOCK):
            yield


def kept_digest(path: Path) -> str | None:
    """The SHA-256 under which the bytes of ``path`` lie, if it is a name of a blob. Believes the blob's name."""
    if not path.is_symlink():
        return None
    target = path.resolve()
    match = _NAME.fullmatch(target.name)
    return match[1] if match and target.parent.name == FOLDER else None
