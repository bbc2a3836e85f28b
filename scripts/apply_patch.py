"""Applies a unified diff to a directory: ``python apply_patch.py PATCH DIRECTORY``.

Run by llama_cpp.cmake with the Python that builds the wheel, since patch(1) is not everywhere that a compiler is.
Stricter than patch(1), and blind to line numbers: what a hunk replaces must be there once. Nothing is written unless
every hunk fits; what is applied already is left as it is.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_TARGET = re.compile(r"\+\+\+ [^/]+/(\S+)")


class PatchError(Exception):
    """One line that says which file differs from what the patch knows."""


def apply_patch(patch: str, directory: Path) -> list[Path]:
    """Change the files below ``directory``, and return those that were not changed already. Raises PatchError."""
    texts: dict[Path, str] = {}
    for name, old, new in _hunks(patch):
        path = directory / name
        text = texts[path] if path in texts else path.read_text()
        if text.count(new) == 1 and text.count(old) == new.count(old):
            texts[path] = text
            continue
        if text.count(old) != 1:
            first = next(line for line in old.splitlines() if line.strip())
            raise PatchError(f"{name} is not as the patch knows it, around: {first.strip()}")
        texts[path] = text.replace(old, new)
    changed = [path for path, text in texts.items() if path.read_text() != text]
    for path in changed:
        path.write_text(texts[path])
    return changed


def _hunks(patch: str) -> Iterator[tuple[str, str, str]]:
    """The file, the lines replaced and the lines in their place, of each hunk."""
    name, old, new = "", [], []  # type: str, list[str], list[str]
    for line in [*patch.splitlines(keepends=True), "@@"]:
        if line.startswith(("@@", "--- ")):
            if old or new:
                yield name, "".join(old), "".join(new)
            old, new = [], []
        elif found := _TARGET.match(line):
            name = found[1]
        elif line.startswith("-"):
            old.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        else:
            # A tool that trims lines leaves an empty one where a blank line of context was.
            old.append(line[1:] or "\n")
            new.append(line[1:] or "\n")


if __name__ == "__main__":
    try:
        apply_patch(Path(sys.argv[1]).read_text(), Path(sys.argv[2]))
    except PatchError as error:
        sys.exit(str(error))
