"""``system_fingerprint``: another file is another one, whichever of its parts differs."""

from __future__ import annotations

from pathlib import Path

from model_registry.fingerprint import fingerprint


def _parts(directory: Path, *contents: bytes) -> list[Path]:
    directory.mkdir()
    paths = [
        directory / f"m-{number:05}-of-{len(contents):05}.gguf" for number in range(1, len(contents) + 1)
    ]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_the_parts_behind_a_first_without_weights_tell_models_apart(tmp_path: Path) -> None:
    one = _parts(tmp_path / "one", b"metadata", b"weights", b"x" * (1 << 18))
    other = _parts(tmp_path / "other", b"metadata", b"WEIGHTS", b"x" * (1 << 18))
    assert fingerprint(one, 100) != fingerprint(other, 100)
    other[1].write_bytes(b"weights")
    assert fingerprint(one, 100) == fingerprint(other, 100)


def test_one_that_is_gone_is_told_by_its_name(tmp_path: Path) -> None:
    assert fingerprint([tmp_path / "a"], 1) != fingerprint([tmp_path / "b"], 1)
