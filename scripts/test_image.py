"""Runs the steps of docker/Dockerfile without a container engine. `make test-image` calls this; takes many minutes.

The build stage runs in a fresh directory that stands for the root of the image's file system: what the Dockerfile
puts into /opt and /src goes there. Steps that need root or change the machine (apt-get) are left out and named.
Then the server starts from what was built, with another working directory and, where this is root, as a user
without rights; it must answer a request, and the variant of the CPU's kernels that it chose is printed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"
NOBODY = 65534
PROMPT = {"model": "smollm2-135m-instruct", "prompt": "The capital of France is", "max_tokens": 48}


class Failed(Exception):
    """One line that says which step failed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="build here, and leave it (default: a temporary directory)")
    parser.add_argument("--serve-only", action="store_true", help="only start what --keep holds")
    parser.add_argument("--arg", action="append", default=[], help="a build argument, such as GGML_NATIVE=ON")
    arguments = parser.parse_args()
    scratch = arguments.keep or Path(tempfile.mkdtemp(prefix="nibble-image-"))
    scratch.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o755)
    try:
        if not arguments.serve_only:
            build(scratch.resolve(), dict(argument.split("=", 1) for argument in arguments.arg))
        serve(scratch.resolve())
    except Failed as failure:
        sys.exit(f"test-image: {failure}")
    finally:
        if arguments.keep is None:
            shutil.rmtree(scratch, ignore_errors=True)


def instructions(text: str) -> list[tuple[str, str]]:
    """Word and rest of each instruction, continuation lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.split("\n") if line)
    ]


def build(image: Path, chosen: dict[str, str]) -> None:
    """Run the first stage with ``image`` in place of the root directory."""
    stages: list[list[tuple[str, str]]] = []
    for word, rest in instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            stages.append([])
        elif stages:
            stages[-1].append((word, rest))
    environment = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    # Where packages come from is the machine's affair, as it is for the rest of set-up.
    environment |= {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "CMAKE_BUILD_"))
    }
    python = Path(image / "bin")
    python.mkdir(exist_ok=True)
    (python / "python").unlink(missing_ok=True)
    (python / "python").symlink_to(_interpreter())
    environment["PATH"] = f"{python}:{environment['PATH']}"
    work = image
    for word, rest in stages[0]:
        match word:
            case "ARG":
                name, _, default = rest.partition("=")
                environment[name] = chosen.get(name, default.strip('"'))
            case "ENV":
                environment |= dict(part.split("=", 1) for part in rest.split())
            case "WORKDIR":
                work = image / rest.lstrip("/")
                work.mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    _copy(source, work / target)
            case "RUN":
                _run(_moved(rest, image), work, environment)
            case _:
                raise Failed(f"{word} is no instruction that this script knows")


def serve(image: Path) -> None:
    """Start what was built, ask it, and tell what it computes with."""
    home = Path(tempfile.mkdtemp(prefix="nibble-image-home-"))
    user = NOBODY if os.geteuid() == 0 else None
    if user is not None:
        os.chown(home, user, user)
    environment = {
        "PATH": f"{image}/opt/nibble/bin:/usr/bin:/bin",
        "HOME": str(home),
        "NIBBLE_DATA_DIR": str(home),
        "NIBBLE_PORT": "0",
        "NIBBLE_CONTEXT": "512",
        "NIBBLE_LOG_FORMAT": "pretty",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    nibble = image / "opt" / "nibble" / "bin" / "nibble"
    process = subprocess.Popen(
        [nibble, "serve"], cwd="/", env=environment, stdout=subprocess.PIPE, text=True, user=user, group=user
    )
    try:
        assert process.stdout is not None
        url = ""
        for line in process.stdout:
            print(f"    {line.rstrip()}")
            url = url or next((w.rstrip(",") for w in line.split() if w.startswith("http://")), "")
            if line.startswith("print("):
                break
        if not url:
            raise Failed("the server did not start")
        if subprocess.run(
            [nibble, "health", "--ready", "--url", url], env=environment, check=False
        ).returncode:
            raise Failed("nibble health says that it is not well")
        _post(f"{url}/v1/completions", PROMPT)  # the first one warms up
        began = time.monotonic()
        answer = _post(f"{url}/v1/completions", PROMPT)
        seconds = time.monotonic() - began
        print(f"answers {answer['choices'][0]['text']!r} in {seconds:.2f} s")
        print(f"loaded {', '.join(_libraries(process.pid)) or 'one library for this processor alone'}")
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(home, ignore_errors=True)
    if process.returncode:
        raise Failed(f"the server ended with {process.returncode}")


def _interpreter() -> Path:
    """The Python to build with: one that a user without rights can run, too, where there is one."""
    own = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for python in (own, Path("/usr/local/bin/python3"), Path("/usr/bin/python3")):
        if python.is_file() and all(parent.stat().st_mode & 0o001 for parent in python.resolve().parents):
            return python
    raise Failed(f"{own} is closed to users without rights, and there is no other Python")


def _libraries(pid: int) -> list[str]:
    """Variants of ggml's CPU kernels that the server's workers have mapped."""
    found: set[str] = set()
    children = [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent(entry) == pid
    ]
    for child in children:
        for line in Path(f"/proc/{child}/maps").read_text().splitlines():
            if "libggml-cpu" in line:
                found.add(Path(line.split()[-1]).name)
    return sorted(found)


def _parent(entry: Path) -> int | None:
    try:
        return int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _post(url: str, body: dict[str, object]) -> dict[str, list[dict[str, str]]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        answer: dict[str, list[dict[str, str]]] = json.load(response)
        return answer


def _moved(command: str, image: Path) -> str:
    return re.sub(r"(?<![\w.])/(?=(?:opt|src)\b)", f"{image}/", command)


def _copy(source: str, target: Path) -> None:
    """What git knows of ``source``, so that nothing of this checkout's own gets in; links are followed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", source],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    if not files:
        raise Failed(f"COPY {source}: there is no such file")
    for file in files:
        inner = file.relative_to(source) if source.endswith("/") else Path(file.name)
        place = target / inner
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, place)


def _run(command: str, work: Path, environment: dict[str, str]) -> None:
    if command.startswith("apt-get"):
        print(f"left out: {command}", flush=True)
        return
    print(f"RUN {command}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        code = subprocess.run(
            ["/bin/sh", "-e", "-c", command], cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        ).returncode  # fmt: skip
        if code:
            output.seek(0)
            raise Failed(f"the step failed with {code}:\n{output.read()[-3000:]}")
    print(f"    {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
