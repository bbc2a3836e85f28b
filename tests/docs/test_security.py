from __future__ import annotations

import re
from collections import Counter

from tests.deploy.files import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()


def test_nobody_is_told_twice_what_he_may() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", TEXT, re.MULTILINE)
    assert "a stranger who reaches the port" in rows
    assert not [row for row, count in Counter(rows).items() if count > 1]


def test_every_way_to_have_something_fetched_is_named() -> None:
    (told,) = re.findall(r"^- \*\*No fetch\*\*: (.*)$", TEXT, re.MULTILINE)
    assert "`nibble pull`" in told
    assert "`POST /admin/v1/models/pull`" in told
