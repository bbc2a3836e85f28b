"""The weights of the real model: where they are."""

from __future__ import annotations

import sys

import pytest

from engine.native.model import NativeModel
from model_registry.sources.bundled import locate_bundled

pytestmark = pytest.mark.model


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells elsewhere what a process holds")
def test_weights_that_may_not_be_copied_are_told_as_mapped() -> None:
    path = locate_bundled()
    assert path is not None
    model = NativeModel(str(path), 0, may_repack=False)
    try:
        assert model.file_bytes == path.stat().st_size
        assert 0.7 * model.file_bytes < model.mapped_bytes <= model.file_bytes, "all but the vocabulary"
    finally:
        model.close()
