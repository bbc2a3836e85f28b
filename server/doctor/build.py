"""Checks of the native library: a build for another processor ends its process, so another process tries it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from server.doctor.finding import Finding
from server.serve import StartError, check_build

_PATIENCE_S = 120.0
_REBUILD = "run 'make clean setup', which builds it for this processor"
_PROGRAM = """\
import json
from engine.native import library
library.initialise()
print(json.dumps({"version": library.version(), "backend": library.backend_description(), "gpu": library.has_gpu()}))
"""
_KERNELS = {
    "avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "avx_vnni": "AVX_VNNI", "amx_int8": "AMX_INT8",
    "asimddp": "DOTPROD", "sve": "SVE", "i8mm": "MATMUL_INT8",
}  # fmt: skip
"""Names of the kernel of what makes models fast (/proc/cpuinfo), and llama.cpp's names for the same."""


class Built(msgspec.Struct, frozen=True):
    """What the library tells of itself."""

    version: str
    backend: str
    gpu: bool = False


def examine_build(program: Sequence[str] | None = None) -> Built | Finding:
    """Load the library in a process of its own; what it tells, or why it does not load."""
    try:
        check_build()
    except StartError as error:
        text, _, mend = str(error).partition(": ")
        return Finding(check="build", status="fail", text=text, mend=mend)
    command = list(program or (sys.executable, "-P", "-c", _PROGRAM))
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(check="build", status="fail", text=f"llama.cpp does not load ({error})", mend=_REBUILD)
    if result.returncode < 0:
        name = signal.Signals(-result.returncode).name
        why = ", as a library does that was built for another processor" if name == "SIGILL" else ""
        return Finding(
            check="build", status="fail", text=f"loading llama.cpp ended with {name}{why}", mend=_REBUILD
        )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding(
            check="build", status="fail", text=f"llama.cpp does not load: {last[:300]}", mend=_REBUILD
        )
    try:
        told = json.loads(result.stdout.strip().splitlines()[-1])
        return msgspec.convert(told, Built)
    except (ValueError, IndexError, msgspec.ValidationError):
        return Finding(check="build", status="fail", text="llama.cpp tells nothing of itself", mend=_REBUILD)


def check_loading(built: Built | Finding) -> Finding:
    """Whether the library loads."""
    if isinstance(built, Finding):
        return built
    return Finding(
        check="build", status="ok", text=f"llama-cpp-python {built.version}, computes with {built.backend}"
    )


def check_processor(built: Built | Finding, cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Whether the build uses what the processor has."""
    if isinstance(built, Finding):
        return Finding(check="processor", status="warn", text="the build does not load, so nobody can tell")
    if built.gpu:
        return Finding(check="processor", status="ok", text=f"{built.backend} computes")
    try:
        text = cpuinfo.read_text()
    except OSError:
        return Finding(check="processor", status="ok", text="this system does not tell its features")
    line = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    has = {_KERNELS[flag] for flag in line.split(":")[-1].split() if flag in _KERNELS}
    used = {word.strip(" ,()") for word in built.backend.replace("CPU", "").split()}
    missing = sorted(has - used)
    if missing:
        return Finding(
            check="processor",
            status="warn",
            text=f"it has {', '.join(missing)}, and the build does not use it",
            mend=f"{_REBUILD}: some models answer several times as fast",
        )
    return Finding(
        check="processor", status="ok", text=f"the build uses {', '.join(sorted(used)) or 'no kernels'}"
    )
