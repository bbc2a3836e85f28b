"""How llama.cpp ends a process: at once, whatever debuggers there are, and however many threads give up together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model

_ROOT = Path(__file__).resolve().parents[3]
_ABORT = """
import threading
import llama_cpp
from engine.native import library
library.initialise()
lib = llama_cpp.llama_cpp._lib
both = threading.Barrier(2)
def give_up():
    both.wait()
    lib.ggml_abort(b"here", 1, b"as the test asked")
threading.Thread(target=give_up, daemon=True).start()
give_up()
"""


def test_two_threads_that_abort_at_once_end_the_process_without_a_debugger() -> None:
    """Found with a mutated file: each had a debugger print its stack, and both waited for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", _ABORT], cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == -6, ended.stderr
    assert "as the test asked" in ended.stderr
    assert "ptrace" not in ended.stderr
    assert "No stack" not in ended.stderr
