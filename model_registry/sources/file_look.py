"""What one look at a file of a model tells: whether it can be one, and is whole, and what its header says of it. Asked
for whenever sources look.

Its header is read once for as long as the file stays the same. What a load would find besides, this does not know.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from engine.errors import ModelLoadFailed
from model_registry.sources.gguf_header import header_problem
from model_registry.sources.gguf_layout import read_layout
from model_registry.sources.header_facts import HeaderFacts, PartFacts, header_facts, part_facts


def file_problem(path: Path) -> str | None:
    """Why the file is none to be served, and what mends it, or None. Never raises OSError. Blocking."""
    seen = _look(path)
    return seen if isinstance(seen, str) else None


def facts_told(parts: Iterable[Path]) -> HeaderFacts | None:
    """What the headers of all files of a model say, the one to load first; None where one of them has a problem.
    Never raises OSError. Blocking.
    """
    seen = [_look(path) for path in parts]
    told = [each for each in seen if isinstance(each, PartFacts)]
    return header_facts(told) if told and len(told) == len(seen) else None


def _look(path: Path) -> PartFacts | str:
    if problem := header_problem(path):
        # A glance, made anew each time: the right to read a file comes without a change of the file.
        return problem
    try:
        stat = path.stat()
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}): see that its disk is well"
    # The time of its last change of any kind as well: a file that is mended in place may keep the other one.
    return _read(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _read(path: Path, size: int, changed_ns: int, touched_ns: int) -> PartFacts | str:
    """The same by its whole header. All but ``path`` make the file another one to the cache."""
    try:
        return part_facts(read_layout(path))
    except ModelLoadFailed as error:
        return error.message


def layouts_read() -> int:
    """How many headers were read whole since the start."""
    return _read.cache_info().misses
