"""Where models are looked for. By itself, since commands that only look need nothing of what serves."""

from __future__ import annotations

from model_registry.config import RegistryConfig
from model_registry.sources.bundled import BundledSource
from model_registry.sources.directory import DirectorySource
from model_registry.sources.found_model import ModelSource


def default_sources(config: RegistryConfig) -> tuple[ModelSource, ...]:
    """The user's directory first: where ids collide, his file is the one that counts."""
    bundled = BundledSource(config.data_dir)
    return (DirectorySource(config.models_dir), bundled) if config.models_dir else (bundled,)
