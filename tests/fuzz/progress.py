"""What a long campaign has done so far, kept on disk, so that it goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Part(msgspec.Struct):
    """Sums over the rounds of one part."""

    rounds: int = 0
    runs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    most_grown_bytes: int = 0
    failures: list[str] = []
    counts: dict[str, int] = {}
    """How often each outcome came, where there are several that are sound."""


class Progress:
    """One file of JSON. Owned by the campaign; written after every round."""

    def __init__(self, path: Path, *, is_fresh: bool) -> None:
        self._path = path
        self.parts: dict[str, Part] = {}
        if path.exists() and not is_fresh:
            self.parts = msgspec.json.decode(path.read_bytes(), type=dict[str, Part])

    def part(self, name: str) -> Part:
        return self.parts.setdefault(name, Part())

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self.parts)))
        new.replace(self._path)
