"""A LoRA adapter file that a source has found."""

from __future__ import annotations

from pathlib import Path

import msgspec


class FoundAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter on disk, of which no more is known than that it says it is one."""

    name: str
    """What stands behind the colon in the id of a model with it."""
    path: Path
    file_bytes: int
    created: int
    """Unix seconds of the file's last change."""
    changed_ns: int

    @property
    def version(self) -> tuple[Path, int, int]:
        """Another one is another adapter, or the same one while it is still being copied."""
        return self.path, self.file_bytes, self.changed_ns


def find_adapter(path: Path, name: str) -> FoundAdapter:
    """The adapter at ``path``. Raises OSError."""
    stat = path.stat()
    return FoundAdapter(
        name=name,
        path=path,
        file_bytes=stat.st_size,
        created=int(stat.st_mtime),
        changed_ns=stat.st_mtime_ns,
    )
