"""Wheels with a model inside, and the ways in which one can be wrong."""

from __future__ import annotations

import io
import zipfile


def make_wheel(*members: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = False) -> bytes:
    """The bytes of a wheel with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()
