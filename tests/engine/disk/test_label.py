from __future__ import annotations

import stat
from pathlib import Path

from engine.disk.label import LABEL_ENDING, is_gone, write_label


def test_a_label_tells_whether_its_model_is_still_there(tmp_path: Path) -> None:
    model, root = tmp_path / "a.gguf", tmp_path / "prefixes"
    model.write_bytes(b"one")
    write_label(root, "key", model)
    label = root / f"key{LABEL_ENDING}"
    assert stat.S_IMODE(label.stat().st_mode) == 0o600
    assert not is_gone(label)
    model.write_bytes(b"another")
    assert is_gone(label)
    write_label(root, "key", model)
    assert not is_gone(label)
    model.unlink()
    assert is_gone(label)
    assert [path.name for path in root.iterdir()] == [label.name]


def test_what_cannot_be_told_is_not_gone(tmp_path: Path) -> None:
    label = tmp_path / f"key{LABEL_ENDING}"
    assert not is_gone(label)
    label.write_bytes(b"{}")
    assert not is_gone(label)
    write_label(tmp_path / "prefixes", "key", tmp_path / "none.gguf")
    assert not (tmp_path / "prefixes").exists()
