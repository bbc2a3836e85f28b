"""A worker process that was started and has not been told yet of what model it is. Nothing heavy is imported here.

A worker imports for as long as a server does, so ``nibble serve`` spawns its first before all else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Self

_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LLAMA_CPP_LIB_PATH",  # where llama-cpp-python looks for another build
    "DYLD_LIBRARY_PATH",
    "PYTHONPATH",
)
_KEPT_PREFIXES = ("GGML_", "OMP_", "GOMP_", "CUDA_", "VK_")


@dataclass(frozen=True, slots=True)
class SpawnedWorker:
    """Whoever holds it ends it, or gives it to a ``WorkerProcess``, which then does."""

    process: subprocess.Popen[bytes]
    """Its standard error is a pipe."""
    connection: socket.socket
    """Our end; the worker ends itself when it is closed."""

    @classmethod
    def spawn(cls) -> Self:
        """Raises OSError where the system starts no process."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = subprocess.Popen(
                    (sys.executable, "-P", "-m", "engine.worker", str(theirs.fileno())),
                    pass_fds=[theirs.fileno()],
                    env=worker_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    # Ctrl-C in the server's terminal is for the server, which then drains.
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """End the process at once, and wait until it is gone."""
        self.connection.close()
        self.process.kill()
        self.process.communicate()


def worker_environment() -> dict[str, str]:
    """What a worker may know of ours: how to find its libraries, and no secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    # Huge pages for repacked weights: made some four times faster, and fewer misses when they are read. So is the KV
    # cache of a llama.cpp that clears it in whole; ours does not, and takes small ones (scripts/lazy_clear.h).
    kept["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    # Threads that wait for each other give the core away soon. By default they spin for milliseconds, and where
    # anything else wants the cores (this server's own API process, say) they keep it from the one they wait for. Within
    # a step our build has a barrier of its own, which engine.patience tells how long to wait; this is between steps.
    kept.setdefault("GOMP_SPINCOUNT", "1000")
    # A process that aborts is to be gone at once. By default ggml calls for a debugger first, which takes seconds.
    kept.setdefault("GGML_NO_BACKTRACE", "1")
    return kept
