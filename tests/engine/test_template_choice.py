from __future__ import annotations

from pathlib import Path

import pytest

from engine.template_choice import read_template, template_names


def test_families_are_known_by_name() -> None:
    assert {"vicuna", "alpaca", "koala", "open-assistant", "chatml", "llama2"} <= set(template_names())
    assert "USER: " in read_template("vicuna")


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages }}é", encoding="utf-8")
    assert read_template(str(file)) == "{{ messages }}é"


@pytest.mark.parametrize("choice", ["vicunia", "", "../vicuna", "\0", "/"])
def test_what_is_neither_is_refused_with_what_there_is(choice: str) -> None:
    with pytest.raises(ValueError, match="neither a file that can be read nor one of alpaca, chatml"):
        read_template(choice)


@pytest.mark.parametrize(("raw", "fault"), [(b"\xff", "UTF-8"), (b"x" * 1_000_001, "bytes")])
def test_a_file_that_is_no_template(tmp_path: Path, raw: bytes, fault: str) -> None:
    file = tmp_path / "mine.jinja"
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=fault):
        read_template(str(file))
