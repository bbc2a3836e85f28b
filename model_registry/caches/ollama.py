"""Ollama's cache: manifests by name and tag, and blobs by digest.

    manifests/registry.ollama.ai/library/llama3.2/1b     (JSON: layers with media type, digest and size)
    blobs/sha256-74701a8c...                             (the GGUF file, its template, its parameters)

Layout: github.com/ollama/ollama, docs and server/manifest.go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from model_registry.caches.cached_model import CachedModel
from model_registry.sources.gguf_header import header_problem

_MODEL = "application/vnd.ollama.image.model"
_UNUSED = {
    "application/vnd.ollama.image.template": "its prompt template",
    "application/vnd.ollama.image.system": "its system message",
    "application/vnd.ollama.image.params": "its sampling parameters",
    "application/vnd.ollama.image.adapter": "its LoRA adapter",
    "application/vnd.ollama.image.projector": "its projector for pictures",
}
_HOST, _LIBRARY = "registry.ollama.ai", "library"
_DIGEST = re.compile(r"sha256[:-](?P<hex>[0-9a-f]{64})")
_MOST_BYTES = 1 << 20


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str


class _Manifest(msgspec.Struct):
    layers: list[_Layer] = []


def roots(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where Ollama keeps models: its own setting, its user's home, and that of its service on Linux."""
    if set_by_user := environ.get("OLLAMA_MODELS"):
        return [Path(set_by_user).expanduser()]
    return [Path("~/.ollama/models").expanduser(), Path("/usr/share/ollama/.ollama/models")]


def models(root: Path) -> list[CachedModel]:
    """Every model whose file is there, by name."""
    manifests = root / "manifests"
    found = []
    for folder, _, tags in os.walk(manifests):
        for tag in sorted(tags):
            path = Path(folder, tag)
            model = _model(root, path.relative_to(manifests).parts, path)
            if model is not None:
                found.append(model)
    return sorted(found, key=lambda model: model.name)


def _model(root: Path, parts: tuple[str, ...], path: Path) -> CachedModel | None:
    if len(parts) != 4:
        return None
    try:
        with path.open("rb") as file:
            manifest = msgspec.json.decode(file.read(_MOST_BYTES), type=_Manifest)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
    blobs = [blob for layer in manifest.layers if layer.media_type == _MODEL and (blob := _blob(root, layer))]
    if len(blobs) != 1 or header_problem(blobs[0]):
        return None
    host, space, name, tag = parts
    told = "/".join(
        part
        for part, usual in ((host, _HOST), (space, _LIBRARY), (name, ""))
        if host != _HOST or part != usual
    )
    unused = [_UNUSED[layer.media_type] for layer in manifest.layers if layer.media_type in _UNUSED]
    return CachedModel(
        cache="ollama",
        name=f"{told}:{tag}",
        files=((f"{_plain(name)}-{_plain(tag)}.gguf", blobs[0]),),
        source=f"ollama:{told}:{tag}",
        notes=(f"Ollama's own settings are not used: {', '.join(unused)}",) if unused else (),
    )


def _blob(root: Path, layer: _Layer) -> Path | None:
    """The file of a layer; a digest that is none leads nowhere."""
    found = _DIGEST.fullmatch(layer.digest)
    if found is None:
        return None
    path = root / "blobs" / f"sha256-{found['hex']}"
    return path if path.is_file() else None


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".")
