"""llama.cpp as a library: initialised once per process, its log routed to ours."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import llama_cpp as llama
from llama_cpp import llama_cpp as bindings

_logger = logging.getLogger("nibble.llama_cpp")
_LEVELS = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUED = 5


@llama.llama_log_callback
def _forward_log(level: int, text: bytes | None, _user_data: ctypes.c_void_p) -> None:
    # Kept at module level for the life of the process: llama.cpp crashes on a collected callback.
    if text and level != _CONTINUED and (line := text.decode("utf-8", "replace").strip()):
        _logger.log(_LEVELS.get(level, logging.DEBUG), line)


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def heard_errors() -> Generator[list[str]]:
    """The lines of errors that llama.cpp logs meanwhile: it tells causes nowhere else."""
    heard = _Heard()
    _logger.addHandler(heard)
    try:
        yield heard.lines
    finally:
        _logger.removeHandler(heard)


@functools.cache
def initialise() -> None:
    """Prepare the library. Safe to call more than once; not thread-safe the first time."""
    # When it aborts, it would have a debugger print where, if one is installed: that takes seconds, in which nobody
    # is told, and two threads that abort at once wait for each other for ever (ggml.c, ggml_print_backtrace).
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    restore_log()
    llama.llama_backend_init()


def give_memory_back() -> None:
    """Have the C library give to the system what was freed, of which glibc keeps much."""
    with suppress(OSError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def set_patience(microseconds: int) -> bool:
    """How long threads that compute wait for each other before they sleep (scripts/patient_barrier.h).

    False where this build has OpenMP's own barrier, whose patience is fixed when the process starts.
    """
    if (kernels := kernels_with("nibble_set_patience")) is None:
        return False
    kernels.nibble_set_patience(ctypes.c_int(microseconds))
    return True


def has_attended() -> bool:
    """Whether our own kernel (scripts/attention.h) computed any attention since this was last asked."""
    kernels = kernels_with("nibble_has_attended")
    # C's bool is a byte, and ctypes takes it for a whole number.
    return kernels is not None and bool(kernels.nibble_has_attended() & 1)


@functools.cache
def kernels_with(name: str) -> ctypes.CDLL | None:
    """The library with a function of ggml's kernels for CPUs, be it ours or ggml's; None where none shows it."""
    return next((each for each in (bindings._lib, *kernel_libraries()) if hasattr(each, name)), None)


def kernel_libraries() -> list[ctypes.CDLL]:
    """ggml's kernels for CPUs as they are loaded here; none where that cannot be told, which Linux alone can."""
    try:
        mapped = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = sorted({line.split()[-1] for line in mapped if "/libggml-cpu" in line})
    libraries = []
    for path in paths:
        with suppress(OSError):
            libraries.append(ctypes.CDLL(path))
    return libraries


def joins_passes(memory: int) -> bool:
    """Whether slots with buffers of their own are computed in one pass (scripts/joined_passes.h) in this KV cache.

    ``memory`` is that of a context which is not freed. False where this build does not do so, or not for such a model.
    """
    return (joins := passes_joiner()) is not None and joins(memory)


@functools.cache
def passes_joiner() -> Callable[[int], bool] | None:
    """What tells of a KV cache whether its passes are joined; None where this build joins none."""
    joins = getattr(bindings._lib, "nibble_joins_passes", None)
    if joins is not None:
        joins.argtypes, joins.restype = (ctypes.c_void_p,), ctypes.c_bool
    return cast("Callable[[int], bool] | None", joins)


def restore_log() -> None:
    """Route llama.cpp's log to ours, after somebody has listened to it directly."""
    llama.llama_log_set(_forward_log, ctypes.c_void_p(0))


def version() -> str:
    """The version of llama-cpp-python, which pins the llama.cpp inside it."""
    return str(llama.__version__)


def has_gpu() -> bool:
    """Whether this build has a backend that layers can be offloaded to."""
    return bool(llama.llama_supports_gpu_offload())


def backend_description() -> str:
    """The device that computes, and on a CPU the kernels it was built with."""
    info = llama.llama_print_system_info().decode("utf-8", "replace")
    sections = [part.strip() for part in info.split("|")]
    flags = [part.split("=")[0].split(":")[-1].strip() for part in sections if part.endswith("= 1")]
    if has_gpu():
        names = [part.split(":")[0].strip() for part in sections if ":" in part]
        return next((name for name in names if name != "CPU"), "GPU")
    kernels = [
        flag for flag in flags if flag.startswith(("AVX", "NEON", "DOTPROD", "SVE", "AMX", "MATMUL", "VSX"))
    ]
    return f"CPU ({', '.join(kernels)})" if kernels else "CPU"
