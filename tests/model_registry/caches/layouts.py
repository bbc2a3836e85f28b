"""Caches as other programs make them, from any file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

TEMPLATE = "application/vnd.ollama.image.template"
PARAMETERS = "application/vnd.ollama.image.params"


def ollama(root: Path, name: str, content: bytes, *others: str) -> Path:
    """A model of that name (``library/tiny/1b``) whose manifest has layers of the ``others`` media types, too."""
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    blob = root / "blobs" / f"sha256-{digest}"
    blob.write_bytes(content)
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": 1}]
    layers += [{"mediaType": kind, "digest": f"sha256:{'00' * 32}", "size": 1} for kind in others]
    manifest = root / "manifests" / "registry.ollama.ai" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {"digest": "x"}, "layers": layers}))
    return blob


def huggingface(root: Path, repository: str, files: dict[str, bytes], revision: str = "abc123") -> Path:
    """A repository with one revision, which ``main`` is."""
    home = root / f"models--{repository.replace('/', '--')}"
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(revision)
    snapshot = home / "snapshots" / revision
    for name, content in files.items():
        blob = home / "blobs" / hashlib.sha256(content + name.encode()).hexdigest()
        blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return home


def lmstudio(root: Path, repository: str, files: dict[str, bytes]) -> Path:
    """A repository's files, in its publisher's folder."""
    home = root / repository
    home.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (home / name).write_bytes(content)
    return home
