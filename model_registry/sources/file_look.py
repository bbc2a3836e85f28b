"""What one look at a file of a model tells: whether it can be one, and is whole. Asked for whenever sources look.

Its header is read once for as long as the file stays the same. What a load would find besides, this does not know.
"""

from __future__ import annotations

import functools
from pathlib import Path

from engine.errors import ModelLoadFailed
from model_registry.sources.gguf_header import header_problem
from model_registry.sources.gguf_layout import read_layout


def file_problem(path: Path) -> str | None:
    """Why the file is none to be served, and what mends it, or None. Never raises OSError. Blocking."""
    if problem := header_problem(path):
        # A glance, made anew each time: the right to read a file comes without a change of the file.
        return problem
    try:
        stat = path.stat()
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}): see that its disk is well"
    # The time of its last change of any kind as well: a file that is mended in place may keep the other one.
    return _layout_problem(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _layout_problem(path: Path, size: int, changed_ns: int, touched_ns: int) -> str | None:
    """The same by its whole header. All but ``path`` make the file another one to the cache."""
    try:
        read_layout(path)
    except ModelLoadFailed as error:
        return error.message
    return None


def layouts_read() -> int:
    """How many headers were read whole since the start."""
    return _layout_problem.cache_info().misses
