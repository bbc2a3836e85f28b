"""LM Studio's models: ``PUBLISHER/REPOSITORY/*.gguf`` below one directory.

Docs: lmstudio.ai/docs/app/basics/import-model.
"""

from __future__ import annotations

from pathlib import Path

from model_registry.caches.cached_model import CachedModel, gguf_files, whole_models


def roots(home: Path | None = None) -> list[Path]:
    """Today's place, which a file in the user's home may name, and that of older versions."""
    home = home or Path("~").expanduser()
    places = [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    try:
        pointed = (home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return places
    return [Path(pointed) / "models", *places] if pointed else places


def models(root: Path) -> list[CachedModel]:
    """Every whole model, by name."""
    found = []
    for key, parts in whole_models(gguf_files(root)).items():
        name = Path(key).relative_to(root).as_posix()
        repository = "/".join(Path(name).parts[:2])
        found.append(
            CachedModel(
                cache="lmstudio",
                name=name,
                files=tuple((path.name, path) for path in parts),
                source=f"lmstudio:{repository}",
            )
        )
    return sorted(found, key=lambda model: model.name)
