"""The patch for llama.cpp is applied whole or not at all, and where it does not fit, somebody is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from apply_patch import PatchError, apply_patch

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_BEFORE = "one\ntwo\n\nthree\nfour\nfive\n"
_AFTER = "one\n2\n\nthree\nfour\nfour and a half\nfive\n"
_PATCH = """\
--- a/src/numbers.txt
+++ b/src/numbers.txt
@@ -1,3 +1,3 @@
 one
-two
+2

@@ -5,2 +5,3 @@ three
 four
+four and a half
 five
"""


def _tree(root: Path, text: str = _BEFORE) -> Path:
    (root / "src").mkdir()
    (root / "src" / "numbers.txt").write_text(text)
    return root


def _text(root: Path) -> str:
    return (root / "src" / "numbers.txt").read_text()


@pytest.mark.parametrize("above", ["", "line\n" * 100])
def test_hunks_are_found_wherever_they_are(tmp_path: Path, above: str) -> None:
    root = _tree(tmp_path, above + _BEFORE)
    assert apply_patch(_PATCH, root) == [root / "src" / "numbers.txt"]
    assert _text(root) == above + _AFTER


def test_what_is_applied_already_is_left_as_it_is(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    apply_patch(_PATCH, root)
    assert apply_patch(_PATCH, root) == []
    assert _text(root) == _AFTER


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_BEFORE.replace("five", "six"), id="another version"),
        pytest.param(_BEFORE * 2, id="there twice"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path: Path, text: str) -> None:
    root = _tree(tmp_path, text)
    with pytest.raises(
        PatchError, match=r"src/numbers\.txt is not as the patch knows it, around: (one|four)"
    ):
        apply_patch(_PATCH, root)
    assert _text(root) == text


def test_the_build_is_told_why(tmp_path: Path) -> None:
    patch = tmp_path / "a.patch"
    patch.write_text(_PATCH)
    script, root = _SCRIPTS / "apply_patch.py", _tree(tmp_path, "nothing of it\n")
    command = [sys.executable, str(script), str(patch), str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "src/numbers.txt is not as the patch knows it, around: one\n"
