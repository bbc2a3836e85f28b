"""What a worker gives up before it reads a model's file or a client's request, and what is bounded once it has loaded.

Nothing here has to succeed: where the system does not know it, or a container forbids it, the log says so, and the
worker runs all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.config import EngineConfig
from engine.system_call_filter import SystemCallFilter

_logger = logging.getLogger("nibble.worker")
_PR_SET_PDEATHSIG: Final = 1
_MOST_FILES: Final = 1024
_LIKELIER: Final = "500"
"""Of the OOM killer's points from -1000 to 1000: where memory runs out, a worker ends and not the server."""
_ADDRESS_MARGIN_BYTES: Final = 4 << 30
"""Of addresses, which cost nothing while nothing is written to them: stacks of threads and arenas of malloc, most of
all, and what requests take while they run."""
_STATM = Path("/proc/self/statm")


class Confinement:
    """Of one worker. Used on its main thread, before and after the model is loaded."""

    def __init__(self, config: EngineConfig, *, has_gpu: bool) -> None:
        self._config = config
        self._has_gpu = has_gpu

    def begin(self) -> None:
        """Give up what is not needed: core dumps, many files, the network, and outliving the server."""
        if not self._config.is_confined:
            return
        self._try("core dumps are not given up", lambda: _lower(resource.RLIMIT_CORE, 0))
        self._try("open files are not bounded", lambda: _lower(resource.RLIMIT_NOFILE, _MOST_FILES))
        if sys.platform == "linux":
            self._try("it is not the first to go", _volunteer)
            if not self._config.prefix_disk_bytes:
                # One that keeps prefixes on disk has them to save first, and ends itself (engine.worker).
                self._try("it may outlive a server that is killed", _die_with_parent)
            self._try(
                "it keeps its network",
                lambda: SystemCallFilter(allows_local_sockets=self._has_gpu).install(),
            )

    def bound_memory(self, prefix_memory_bytes: int) -> None:
        """Bound addresses by what is taken now (weights, cache and buffers are all there), what prefixes may take, and
        a margin. Drivers of GPUs reserve more addresses than there is memory, so with one nothing is bounded."""
        if not self._config.is_confined or self._has_gpu or sys.platform != "linux":
            return
        self._try(
            "its memory is not bounded",
            lambda: _lower(resource.RLIMIT_AS, address_bytes() + prefix_memory_bytes + _ADDRESS_MARGIN_BYTES),
        )

    def _try(self, otherwise: str, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, ValueError) as error:
            _logger.warning("the worker of %s: %s (%s)", self._config.model_id, otherwise, error)


def address_bytes() -> int:
    """Addresses that this process has mapped. Raises OSError where nobody tells."""
    return int(_STATM.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _lower(kind: int, most: int) -> None:
    """Set a limit, hard and soft, unless it is lower already."""
    soft, hard = resource.getrlimit(kind)
    unlimited = resource.RLIM_INFINITY
    hard = most if hard == unlimited else min(hard, most)
    resource.setrlimit(kind, (hard if soft == unlimited else min(soft, hard), hard))


def _volunteer() -> None:
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(FileNotFoundError):
        if int(path.read_text()) < int(_LIKELIER):
            path.write_text(_LIKELIER)


def _die_with_parent() -> None:
    # Where the server has died already, its end of the socket is closed, and the worker ends by that.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno() or errno.EINVAL, "prctl refuses")
