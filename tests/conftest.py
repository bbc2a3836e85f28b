"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# CI says the same of the same code every time; new examples are looked for on every other run.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")
