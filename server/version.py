"""The version of what is installed."""

from __future__ import annotations

from importlib import metadata


def version_of(distribution: str = "nibble-server") -> str:
    """The installed version of a distribution, or ``unknown`` where it runs without being installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
