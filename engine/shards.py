"""The files of a model: one, or the parts that llama.cpp finds beside the first."""

from __future__ import annotations

import re
from pathlib import Path

_SHARD = re.compile(r"^(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf$")


def shards(path: Path) -> list[Path]:
    """All that are there, in their order; ``path`` alone where its name is none of a part."""
    found = _SHARD.match(path.name)
    if found is None:
        return [path]
    return sorted(path.parent.glob(f"{_literal(found['stem'])}-?????-of-{found['count']}.gguf"))


def shards_bytes(path: Path) -> int:
    """Of all of them together. Raises OSError."""
    return sum(shard.stat().st_size for shard in shards(path))


def _literal(text: str) -> str:
    """``text`` as a pattern that matches nothing else."""
    return re.sub(r"([*?[])", r"[\1]", text)
