"""Builds llama-cpp-python from its locked source, once per machine.

Called by setup.py. The wheel is kept in the user's cache directory, so that a new environment or another
checkout does not compile llama.cpp again. It depends on no Python version (its tag is py3-none), but on the
CPU: a native build that meets an instruction its CPU lacks ends the process without a word.
"""

import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "llama.txt"
TRIM = ROOT / "scripts" / "llama_cpp.cmake"
PATCHES = [
    ROOT / "scripts" / name
    for name in (
        "tile_config.h",
        "lazy_clear.h",
        "copy_used.h",
        "apply_patch.py",
        "llama_cpp.patch",
        "patient_barrier.h",
        "joined_passes.h",
        "q4_1_product.h",
        "attention.h",
        "few_rows_attention.h",
        "many_rows_attention.h",
        "packed_product.h",
        "vocabulary_scan.h",
    )
]
NOTICE = "building llama.cpp, 2 to 5 minutes on two cores…"
NINJA_PROGRESS = re.compile(rb"\[(\d+)/(\d+)\]")


class BuildError(Exception):
    """One line that names what is missing or wrong, and its mend."""


def cmake_args() -> list[str]:
    """Flags for CMake: ours, then those of $CMAKE_ARGS, where the last of two that differ wins.

    llama.cpp builds its tests, examples and tools only when it is not part of another project, and Metal is
    forced on by llama-cpp-python on Apple machines: neither needs a flag.
    """
    ours = ["-DGGML_NATIVE=ON", "-DLLAVA_BUILD=OFF"]
    return ours + shlex.split(os.environ.get("CMAKE_ARGS", ""))


def fingerprint() -> str:
    """A hash of everything that the built library depends on."""
    texts = [path.read_text() for path in (LOCK, TRIM, *PATCHES)]
    parts = [*texts, *cmake_args(), sysconfig.get_platform(), _cpu()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cached() -> Path | None:
    """The wheel built earlier for this very source, these flags and this CPU, if there is one."""
    return next(_cache(fingerprint()).glob("llama_cpp_python-*.whl"), None)


def check_compilers() -> None:
    """Compiles two lines of C and of C++.

    Looking for the commands is not enough: macOS has stubs of them, and a C++ compiler may lack its headers.
    """
    sources = {
        "C": ("CC", ("cc", "gcc", "clang"), "c", "#include <stdlib.h>\nint main(void) { return 0; }\n"),
        "C++": ("CXX", ("c++", "g++", "clang++"), "c++", "#include <vector>\nint main() { return 0; }\n"),
    }
    for language, (variable, names, flag, source) in sources.items():
        chosen = os.environ.get(variable)
        candidates = [shlex.split(chosen)] if chosen else [[name] for name in names if shutil.which(name)]
        if not any(_compiles(command, flag, source) for command in candidates):
            found = f"{variable}={chosen} does not work" if chosen else f"no working {language} compiler"
            raise BuildError(f"{found}, and llama.cpp is built from source: {_mend()}")


def build(python: Path, log: Path) -> Path:
    """Builds the wheel with the tools in `python`'s environment, and returns its place in the cache.

    The compiler's output goes to `log`. Nothing appears in the cache before it is whole.
    """
    place = _cache(fingerprint())
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".building-") as scratch:
        command = [
            str(python), "-m", "pip", "wheel", "--verbose", "--disable-pip-version-check", "--no-input",
            "--no-deps", "--no-build-isolation", "--require-hashes", "--requirement", str(LOCK),
            # pip keeps wheels under a name that knows neither CPU nor flags, and would hand out a wrong one.
            "--no-cache-dir",
            "--wheel-dir", scratch,
        ]  # fmt: skip
        with log.open("wb") as output:
            code = _run(command, _environment(python), output, log)
        if code != 0:
            raise BuildError(f"llama.cpp did not build; the compiler's log is {log}{_errors(log)}")
        (wheel,) = Path(scratch).glob("*.whl")
        place.mkdir(exist_ok=True)
        return wheel.replace(place / wheel.name)


def _cache(key: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "nibble" / "wheels" / key


def _cpu() -> str:
    if platform.system() == "Darwin":
        sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(sysctl, capture_output=True, text=True, check=False).stdout
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):  # as x86 and Arm call them
            return " ".join(sorted(value.split()))
    return platform.processor()


def _compiles(command: list[str], language: str, source: str) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [*command, "-x", language, "-", "-o", str(Path(scratch) / "probe")]
        try:
            return subprocess.run(arguments, input=source.encode(), capture_output=True).returncode == 0
        except OSError:
            return False


def _mend() -> str:
    if platform.system() == "Darwin":
        return "xcode-select --install"
    for tool, command in {
        "apt-get": "sudo apt install build-essential",
        "dnf": "sudo dnf install gcc gcc-c++",
        "pacman": "sudo pacman -S base-devel",
        "zypper": "sudo zypper install gcc gcc-c++",
        "apk": "sudo apk add build-base linux-headers",
    }.items():
        if shutil.which(tool):
            return command
    return "install gcc and g++, or clang"


def _environment(python: Path) -> dict[str, str]:
    trim = shlex.quote(f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={TRIM}")
    return os.environ | {
        # The locked cmake and ninja come before those of the system.
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "CMAKE_ARGS": f"{shlex.join(cmake_args())} {trim}",
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(_jobs()),
    }


def _jobs() -> int:
    """One compiler per core, as long as each can have a gigabyte: the larger files need about that."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    return max(1, min(cores, gigabytes))


def _run(command: list[str], environment: dict[str, str], output: BinaryIO, log: Path) -> int:
    """Runs to the end, telling how far it is: in place on a terminal, else every half minute."""
    started, told = time.monotonic(), 0.0
    on_terminal = sys.stdout.isatty()
    print(f"  {NOTICE}", end="\r" if on_terminal else "\n", flush=True)
    # In a session of its own, so that an interruption ends the compilers too, not only pip.
    process = subprocess.Popen(
        command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        while True:
            try:
                return process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - started
                line = f"  {NOTICE} {int(seconds) // 60}:{int(seconds) % 60:02}{_progress(log)}"
                if on_terminal:
                    print(f"{line}  ", end="\r", flush=True)
                elif seconds - told >= 30:
                    told = seconds
                    print(line, flush=True)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _progress(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 200_000))
        steps = NINJA_PROGRESS.findall(file.read())
    return f", step {int(steps[-1][0])} of {int(steps[-1][1])}" if steps else ""


def _errors(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
    return "".join(f"\n    {line[:200]}" for line in lines[:5])
