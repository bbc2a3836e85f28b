from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from server.serve import StartError, check_build


def test_a_library_that_is_not_installed_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(StartError, match=r"not installed: run 'make setup'.* compiler"):
        check_build()


def test_a_library_that_was_not_built_names_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llama_cpp"
    package.mkdir()
    spec = ModuleSpec("llama_cpp", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    with pytest.raises(StartError, match="without its library: run 'make setup'"):
        check_build()
    (package / "lib").mkdir()
    (package / "lib" / "libllama.so").touch()
    check_build()


def test_this_one_is_built() -> None:
    check_build()
