"""The process that tries model files out, each in a child of its own: ``python -m tests.fuzz.gguf_trial``.

What loads a file is what a worker loads it with (``engine.loader``); forking a process that holds the library already
makes a trial take milliseconds. Messages are paths and ``Verdict``s, through ``engine.helper_pipe``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from engine import helper_pipe
from engine.config import EngineConfig
from engine.errors import NibbleError
from engine.loader import LoadedModel, load
from engine.native import library
from tests.fuzz.verdict import TRIAL_LIMIT_S, Verdict

_MEMORY_BYTES = 6 << 30
_CONTEXT = 64


def try_file(path: str) -> Verdict:
    """Load as ``model_registry.model_import.try_out`` does, and read every token's text."""
    config = EngineConfig(
        model_id="mutant",
        model_path=path,
        context=_CONTEXT,
        parallel=1,
        threads=1,
        prefix_memory_bytes=0,
        speculation=False,
    )
    try:
        loaded = load(config)
        if isinstance(loaded, LoadedModel):
            for token in range(loaded.vocabulary.size):
                loaded.vocabulary.piece(token)
            loaded.vocabulary.tokenize("Hi, there: 12 geese\n", add_special=True, parse_special=True)
    except NibbleError as error:
        return Verdict("refused", error.message)
    except Exception as error:
        return Verdict("untyped", f"{type(error).__name__}: {error}"[:500])
    return Verdict("loads")


def _try_in_child(path: str) -> Verdict:
    with tempfile.TemporaryFile() as words:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(words.fileno(), sys.stderr.fileno())
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(TRIAL_LIMIT_S)
            os.write(writing, msgspec.msgpack.encode(try_file(path)))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            verdict = told.read()
        _, status = os.waitpid(child, 0)
        if verdict:
            return msgspec.msgpack.decode(verdict, type=Verdict)
        number = -os.waitstatus_to_exitcode(status)
        if number == signal.SIGALRM:
            return Verdict("hung", f"no verdict in {TRIAL_LIMIT_S} s")
        words.seek(0)
        return Verdict(
            "died", f"{signal.Signals(number).name if number > 0 else -number}: {_last(words.read())}"
        )


def _last(words: bytes) -> str:
    """The line that tells why a process ends, without what differs from file to file."""
    lines = words.decode("utf-8", "replace").splitlines()
    telling = [line for line in lines if "ASSERT" in line or "what()" in line or "terminate" in line]
    line = (telling or lines or [""])[-1].strip()
    return line.rpartition("/")[2][:160]


def main() -> None:
    # Its own words of warning are not needed; what ends the process stands on stderr.
    logging.getLogger().addHandler(logging.NullHandler())
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/oom_score_adj").write_text("1000")
    library.initialise()
    while True:
        path = helper_pipe.receive().decode()
        helper_pipe.answer(msgspec.msgpack.encode(_try_in_child(path)))


if __name__ == "__main__":
    main()
