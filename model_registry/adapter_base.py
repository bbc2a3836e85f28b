"""Which model an adapter was made for: told by architecture, shapes and names, from the headers of both files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from engine.errors import ModelLoadFailed
from model_registry.sources.found_adapter import FoundAdapter
from model_registry.sources.gguf_layout import GgufLayout, read_layout

_SUFFIXES = (".lora_a", ".lora_b")
_EMBEDDING = "token_embd.weight"
_BASE = re.compile(r"general\.base_model\.\d+\.(name|repo_url)")
_OWN_NAMES = ("general.name", "general.basename")
_NO_LETTERS = re.compile(r"[^a-z0-9]+")
_MORE_OF_A_NAME = re.compile(r"\.?(i?q\d\w*|f16|bf16|f32|gguf)$")
"""What file names add to those of models."""


class Base(msgspec.Struct, frozen=True):
    """A model that an adapter may be for: its id, and all its files."""

    id: str
    files: tuple[Path, ...]


class Fit(msgspec.Struct, frozen=True):
    """The model that an adapter is for, or why there is none, with the mend."""

    model: str | None = None
    failure: str | None = None


class AdapterBases:
    """Reads headers, each once for as long as its file is the same. Used by one look at a time."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, int, int], GgufLayout | str] = {}

    def fault(self, adapter: FoundAdapter, base: Base) -> str | None:
        """Why ``adapter`` is not for ``base``, or None if it is as far as the headers tell."""
        header = self._own(adapter)
        if isinstance(header, str):
            return header
        model = self._model(base)
        if isinstance(model, str):
            return model
        if fault := _misfit(header, model):
            return f"{adapter.path} was made for another model than '{base.id}': {fault}"
        return None

    def own_fault(self, adapter: FoundAdapter) -> str | None:
        """What is wrong with ``adapter`` whatever it is for."""
        header = self._own(adapter)
        return header if isinstance(header, str) else None

    def fit(self, adapter: FoundAdapter, bases: Iterable[Base]) -> Fit:
        """The model that ``adapter`` is for, of ``bases``.

        Where several fit, as those of one family do, it is the one whose name the adapter gives; where it gives none,
        or a name of none, one must say it.
        """
        header = self._own(adapter)
        if isinstance(header, str):
            return Fit(failure=header)
        fitting: dict[str, GgufLayout] = {}
        for base in bases:
            model = self._model(base)
            if not isinstance(model, str) and _misfit(header, model) is None:
                fitting[base.id] = model
        wanted = _base_names(header.texts)
        named = [model_id for model_id, model in fitting.items() if wanted & _names(model_id, model.texts)]
        for choice in (named, [*fitting]):
            if len(choice) == 1:
                return Fit(choice[0])
        made_for = header.texts.get("general.base_model.0.name") or "another model"
        if not fitting:
            return Fit(
                failure=f"{adapter.path} was made for {made_for}, and no model here has its shapes: add its model"
            )
        several = ", ".join(f"'{model_id}'" for model_id in sorted(named or fitting)[:5])
        return Fit(
            failure=f"{adapter.path} fits several models ({several}): say which, with nibble import "
            f"{adapter.path.name} --for MODEL"
        )

    def _own(self, adapter: FoundAdapter) -> GgufLayout | str:
        """The header of ``adapter``, or why there is nothing that it could be for."""
        header = self._header(adapter.path)
        if not isinstance(header, str) and (fault := _own_fault(header)):
            return f"{adapter.path} {fault}"
        return header

    def _model(self, base: Base) -> GgufLayout | str:
        """All parts of a split model as one."""
        parts = [self._header(path) for path in base.files]
        broken = next((part for part in parts if isinstance(part, str)), None)
        if broken is not None:
            return broken
        whole = [part for part in parts if isinstance(part, GgufLayout)]
        if len(whole) == 1:
            return whole[0]
        shapes = {name: shape for part in whole for name, shape in part.shapes.items()}
        return msgspec.structs.replace(whole[0], shapes=shapes) if whole else "it has no files"

    def _header(self, path: Path) -> GgufLayout | str:
        """Or why it cannot be read, with the mend."""
        try:
            stat = path.stat()
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
        key = str(path), stat.st_size, stat.st_mtime_ns
        if key not in self._read:
            try:
                self._read[key] = read_layout(path)
            except ModelLoadFailed as error:
                self._read[key] = error.message
        return self._read[key]

    def keep(self, paths: Iterable[Path]) -> None:
        """Forget the headers of all other files."""
        kept = {str(path) for path in paths}
        self._read = {key: header for key, header in self._read.items() if key[0] in kept}


def _own_fault(header: GgufLayout) -> str | None:
    """What is wrong with an adapter whatever it is for."""
    if (method := header.texts.get("adapter.type", "")) != "lora":
        return f"is an adapter of the type '{method[:40]}', and none but LoRA are served"
    if header.is_activated:
        return "is an activated LoRA, which counts only behind certain tokens, and that is not served"
    return None if _pairs(header.shapes) else "has tensors that are no pairs of a LoRA: convert it again"


def _pairs(
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Shapes of A and B of each tensor that is adapted, by its name; None where one of a pair is missing."""
    names = {name[: -len(_SUFFIXES[0])] for name in shapes if name.endswith(_SUFFIXES)}
    pairs = {}
    for name in names:
        first, second = (shapes.get(name + suffix) for suffix in _SUFFIXES)
        if first is None or second is None or len(first) < 2 or len(second) < 2:
            return None
        pairs[name] = first, second
    others = (name for name in shapes if not name.endswith((*_SUFFIXES, "_norm.weight")))
    return None if next(others, None) is not None else pairs


def _misfit(adapter: GgufLayout, model: GgufLayout) -> str | None:
    """Why the adapter cannot be one for the model, by llama.cpp's own rules (llama_adapter_lora_init_impl)."""
    made_for, architecture = (header.texts.get("general.architecture", "") for header in (adapter, model))
    if made_for != architecture:
        return f"its architecture is {made_for[:40] or 'not told'}, the model's {architecture[:40]}"
    for name, (first, second) in (_pairs(adapter.shapes) or {}).items():
        shape = model.shapes.get(name)
        if shape is None or len(shape) < 2:
            return f"the model has no tensor '{name[:80]}'"
        if name == _EMBEDDING:
            is_right = shape[0] == second[1] and shape[1] == first[1]
        else:
            is_right = shape[0] == first[0] and shape[1] == second[1] and first[1] == second[0]
        if not is_right:
            return f"its tensor '{name[:80]}' is for one of another shape than {shape}"
    return None


def _base_names(texts: Mapping[str, str]) -> set[str]:
    """What an adapter calls the model that it was made for."""
    told = (value.rstrip("/").rpartition("/")[2] for key, value in texts.items() if _BASE.fullmatch(key))
    return {_plain(name) for name in told} - {""}


def _names(model_id: str, texts: Mapping[str, str]) -> set[str]:
    """All that a model may be called."""
    own = (texts.get(key, "") for key in _OWN_NAMES)
    told = (value for key, value in texts.items() if key == "general.repo_url")
    return {_plain(name.rstrip("/").rpartition("/")[2]) for name in (model_id, *own, *told)} - {""}


def _plain(name: str) -> str:
    lower = name.lower()
    return _NO_LETTERS.sub("", _MORE_OF_A_NAME.sub("", lower)) or _NO_LETTERS.sub("", lower)
