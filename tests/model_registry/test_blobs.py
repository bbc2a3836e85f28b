"""What lies under its digest: one file however many names it has, and none once it has no name."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.disk.file_system import FileSystem
from model_registry.blobs import FOLDER, Blobs, kept_digest

ONE = b"GGUF one"
DIGEST = hashlib.sha256(ONE).hexdigest()


def bring(blobs: Blobs, models: Path, content: bytes, name: str) -> Path:
    new = models / ".new"
    models.mkdir(exist_ok=True)
    new.write_bytes(content)
    return blobs.keep(new, hashlib.sha256(content).hexdigest(), name)


def lying(models: Path) -> list[str]:
    return sorted(path.name for path in (models / FOLDER).glob("sha256-*"))


def test_one_content_under_two_names_is_one_file_and_goes_with_the_last(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    first = bring(blobs, tmp_path, ONE, "a.gguf")
    second = bring(blobs, tmp_path, ONE, "b.gguf")
    assert first.samefile(second)
    assert lying(tmp_path) == [f"sha256-{DIGEST}"]
    assert kept_digest(first) == kept_digest(second) == DIGEST
    assert not (tmp_path / ".new").exists()
    blobs.remove(first)
    assert second.read_bytes() == ONE
    (tmp_path / "by-hand.gguf").symlink_to(second)
    blobs.remove(second)
    assert lying(tmp_path) == []


def test_a_link_to_a_link_keeps_the_bytes(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    first = bring(blobs, tmp_path, ONE, "a.gguf")
    other = tmp_path / "by-hand.gguf"
    other.symlink_to(first.resolve())
    blobs.remove(first)
    assert other.read_bytes() == ONE
    assert blobs.strays() == []


def test_the_directory_can_be_moved_as_a_whole(tmp_path: Path) -> None:
    bring(Blobs(tmp_path / "here"), tmp_path / "here", ONE, "a.gguf")
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there" / "a.gguf").read_bytes() == ONE


def test_what_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    own = tmp_path / "own.gguf"
    own.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        bring(blobs, tmp_path, ONE, "own.gguf")
    assert own.read_bytes() == b"mine"
    assert (tmp_path / ".new").read_bytes() == ONE, "what could not be named is as before"
    assert lying(tmp_path) == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(ONE)
    link = tmp_path / "link.gguf"
    link.symlink_to(elsewhere)
    assert kept_digest(link) is None
    blobs.remove(link)
    blobs.remove(own)
    assert elsewhere.read_bytes() == ONE
    assert not own.exists()


def test_a_name_that_leads_nowhere_is_free(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").symlink_to(tmp_path / "nowhere")
    assert bring(Blobs(tmp_path), tmp_path, ONE, "a.gguf").read_bytes() == ONE


class _Linkless(FileSystem):
    def link(self, path: Path, target: str) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))


def test_a_file_system_without_links_keeps_the_file_under_its_name(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, _Linkless())
    path = bring(blobs, tmp_path, ONE, "a.gguf")
    assert path.read_bytes() == ONE
    assert not path.is_symlink()
    assert lying(tmp_path) == []
    blobs.remove(path)
    assert not path.exists()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["bring", "remove", "unlink", "prune"]),
        st.sampled_from("abc"),
        st.sampled_from([b"x", b"y"]),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_names_tell_the_truth_whatever_comes_and_goes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]
) -> None:
    models = tmp_path_factory.mktemp("models")
    blobs = Blobs(models)
    names: dict[str, bytes] = {}
    for action, name, content in steps:
        match action:
            case "bring" if name not in names:
                bring(blobs, models, content, name)
                names[name] = content
            case "remove":
                blobs.remove(models / name)
                names.pop(name, None)
            case "unlink":
                (models / name).unlink(missing_ok=True)
                names.pop(name, None)
            case "prune":
                assert all(map(blobs.remove_stray, blobs.strays()))
                assert len(lying(models)) == len(set(names.values()))
            case _:
                pass
        assert {name: (models / name).read_bytes() for name in names} == names
