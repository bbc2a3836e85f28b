"""Writes the table of docs/licences.md: what a running Nibble consists of, and under which licences. `make licences`.

The packages are those of the locks that the image is made of, the licences what the installed packages say of
themselves.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "licences.md"
LOCKS = ("tracing", "llama", "model")
"""Of requirements/: the packages, the one that brings llama.cpp, and the bundled model; the image has all of them."""
BEGIN, END = "<!-- licences -->\n", "<!-- end of licences -->\n"
_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;\\]+)(?P<marker>.*)$", re.MULTILINE)
_NAMES = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""How packages spell what has a name of SPDX's."""


def main() -> None:
    TARGET.write_text(updated(TARGET.read_text()))


def updated(text: str) -> str:
    """``text`` with the table as locks and packages are now."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return f"{head}{begin}{table()}{end}{tail}"


def table() -> str:
    lines = ["| package | version | licence |", "|---|---|---|"]
    lines += [f"| {name} | {', '.join(sorted(versions))} | {licence_of(name)} |" for name, versions in pins()]
    return "\n".join(lines) + "\n"


def pins() -> Iterator[tuple[str, set[str]]]:
    """Every locked package and its versions, of which there are several where Pythons differ."""
    found: dict[str, set[str]] = {}
    for lock in LOCKS:
        for pin in _PIN.finditer((ROOT / "requirements" / f"{lock}.txt").read_text()):
            if "sys_platform == 'win32'" not in pin["marker"]:  # nothing here runs there
                found.setdefault(pin["name"], set()).add(pin["version"])
    yield from sorted(found.items())


def licence_of(name: str) -> str:
    """In SPDX's names where it has one. Raises ValueError for a package that says nothing."""
    told = importlib.metadata.metadata(name)
    for expression in told.get_all("License-Expression", []):
        return str(expression)
    for short in told.get_all("License", []):
        if short and "\n" not in short:
            return _NAMES.get(short, str(short))
    classifiers = (line.rpartition(" :: ")[2] for line in told.get_all("Classifier", []))
    names = sorted({_NAMES.get(name, "") for name in classifiers} - {""})
    if not names:
        raise ValueError(f"{name} does not say under which licence it is: look it up, and teach this script")
    return " OR ".join(names)


if __name__ == "__main__":
    main()
