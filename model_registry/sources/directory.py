"""The models directory: every ``*.gguf`` directly in it is a model, its id the lower-cased file stem.

A file that says of itself that it is an adapter is none: it makes another id of a model that is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from engine.errors import ModelLoadFailed
from model_registry.model_adapter import is_adapter_name
from model_registry.sources.file_look import facts_told, file_problem
from model_registry.sources.found_adapter import FoundAdapter, find_adapter
from model_registry.sources.found_model import Findings, FoundModel
from model_registry.sources.gguf_layout import is_adapter

# How llama.cpp names the parts of a split model (llama_split_path): NAME-00001-of-00003.gguf
SPLIT_PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


class DirectorySource:
    """Reads the directory anew on each call; keeps nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self) -> Findings:
        """Models sorted by id. A missing or unreadable directory holds none, which is a problem told."""
        try:
            files = sorted(path for path in self._directory.iterdir() if path.suffix.lower() == ".gguf")
        except OSError as error:
            return Findings(problems=(f"models directory {self._directory}: {error.strerror}",))
        models: dict[str, FoundModel] = {}
        adapters: list[FoundAdapter] = []
        problems: list[str] = []
        for path in files:
            found = self._find_one(path, files)
            if found is None:
                continue
            if isinstance(found, str):
                problems.append(found)
            elif isinstance(found, FoundAdapter):
                adapters.append(found)
            elif first := models.get(found.id):
                name = first.path.name
                problems.append(f"{path} is not served: its id '{found.id}' is that of {name}; rename one")
            else:
                models[found.id] = found
        return Findings(
            tuple(sorted(models.values(), key=lambda model: model.id)), tuple(adapters), tuple(problems)
        )

    def signature(self) -> object:
        """Names, sizes and times of the files; None where the directory cannot be read."""
        found = []
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    if entry.name.lower().endswith(".gguf"):
                        found.append(_look(entry))
        except OSError:
            return None
        return sorted(found)

    def check(self, model: FoundModel) -> None:
        """Look at the file as it is now, which may be mended since it was found. Raises ModelLoadFailed."""
        if problem := _failure(model.path, self.files(model)):
            raise ModelLoadFailed(problem)

    def files(self, model: FoundModel) -> tuple[Path, ...]:
        """The file, or all parts that are there of a split model."""
        part = SPLIT_PART.fullmatch(model.path.stem)
        if part is None:
            return (model.path,)
        paths = (_part_path(model.path, part, number) for number in range(1, int(part["count"]) + 1))
        return tuple(path for path in paths if path.is_file())

    def _find_one(self, path: Path, files: list[Path]) -> FoundModel | FoundAdapter | str | None:
        """A model, an adapter, or a problem; None for a later part of a split model, which belongs to its first."""
        part = SPLIT_PART.fullmatch(path.stem)
        name = path.stem
        if part is None and is_adapter(path):
            return _find_adapter(path)
        if part:
            first = _part_path(path, part, 1)
            if int(part["number"]) != 1:
                return (
                    None
                    if first in files
                    else f"{path} is not served: its first part {first.name} is missing"
                )
            name = part["name"]
        try:
            parts = [file for file in files if part and _same_split(file, part)] or [path]
            sizes = [file.stat() for file in parts]
        except OSError as error:
            return f"{path} is not served: {error.strerror}"
        failure = _failure(path, parts)
        return FoundModel(
            id=name.lower(),
            path=path,
            file_bytes=sum(size.st_size for size in sizes),
            created=int(sizes[0].st_mtime),
            changed_ns=max(size.st_mtime_ns for size in sizes),
            owned_by="local",
            failure=failure,
            header=None if failure else facts_told(parts),
        )


def _find_adapter(path: Path) -> FoundAdapter | str:
    name = path.stem.lower()
    if not is_adapter_name(name):
        return (
            f"{path} is not served: letters, digits, '.', '_' and '-' make the name of an adapter; rename it"
        )
    try:
        return find_adapter(path, name)
    except OSError as error:
        return f"{path} is not served: {error.strerror}"


def _look(entry: os.DirEntry[str]) -> tuple[str, int, int]:
    try:
        stat = entry.stat()
    except OSError:
        return entry.name, 0, 0
    return entry.name, stat.st_size, stat.st_mtime_ns


def _part_path(path: Path, part: re.Match[str], number: int) -> Path:
    return path.with_name(f"{part['name']}-{number:05}-of-{part['count']}{path.suffix}")


def _same_split(path: Path, part: re.Match[str]) -> bool:
    other = SPLIT_PART.fullmatch(path.stem)
    return other is not None and (other["name"], other["count"]) == (part["name"], part["count"])


def _failure(path: Path, parts: Iterable[Path]) -> str | None:
    """What is wrong with the model whose first file is ``path``; ``parts`` are all of it that are there."""
    return file_problem(path) or _missing_part(path) or next(filter(None, map(file_problem, parts)), None)


def _missing_part(path: Path) -> str | None:
    part = SPLIT_PART.fullmatch(path.stem)
    if part is None:
        return None
    for number in range(2, int(part["count"]) + 1):
        other = _part_path(path, part, number)
        if not other.is_file():
            return (
                f"{path} is split, and its part {other.name} is missing: download all {part['count']} parts"
            )
    return None
