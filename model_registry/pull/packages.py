"""Where wheels lie until their model is taken out. By itself, so that who cleans up there needs no HTTP client."""

from __future__ import annotations

PACKAGES = ".packages"
"""Below the models directory, where no source looks."""
