"""What holds for every test."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

# CI says the same of the same code every time; new examples are looked for on every other run.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")


def pytest_collection_finish() -> None:
    """Take thousands of collected tests out of what garbage is looked for in.

    A full look takes a third of a second and more, in which a test's clients neither speak nor hear: long enough for
    a server with short limits to give them up.
    """
    gc.collect()
    gc.freeze()
