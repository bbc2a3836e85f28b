"""One act after another with a fault at its every call that changes the disk: ``python -m tests.faults.rehearsal``.

Runs with ``disk_faults.c`` loaded before the C library. Each act is done by a fork of this process, which arms the
fault for itself; what is left is looked at from outside. Its arguments are how many calls at most and the kinds
of faults, by number; it prints one line of JSON for each act and kind.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import msgspec
import numpy as np

from engine.disk.directory import PrefixDirectory
from engine.disk.file_system import FileSystem
from engine.errors import InsufficientDisk
from model_registry.pull.download import Download
from model_registry.pull.pull_error import PullError
from model_registry.pull.remote_file import RemoteFile
from model_registry.quantize.new_file import NewFile, refusals
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError
from routes.day_usage import DayUsage, UsageQuery
from server.keys.key_store import KeyStore, KeyStoreError
from server.usage.usage_store import UsageStore, UsageStoreError
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.pull.file_server import FileServer, file_server

State = Literal["old", "new"]
KINDS = ("full once", "broken from there on", "killed", "killed in the middle of a write")
_DONE, _REFUSED, _UNTYPED, _UNHURT = 0, 10, 11, 12


@dataclass(frozen=True, slots=True)
class Act:
    """``prepare`` makes the old state in a directory, ``do`` the new one of it, and ``state`` tells which there is."""

    name: str
    prepare: Callable[[Path], None]
    do: Callable[[Path], None]
    state: Callable[[Path], State]
    """Raises AssertionError for anything between."""
    errors: tuple[type[Exception], ...] = ()
    """What a caller of ``do`` is told in."""


def _states(found: object, old: object, new: object) -> State:
    assert found in (old, new), f"{found} is neither {old} nor {new}"
    return "new" if found == new else "old"


def _create_key(root: Path, name: str) -> None:
    KeyStore(root).create(name, scopes=frozenset({"inference"}))


def _keys(root: Path) -> dict[str, bool]:
    """Names of the keys, and whether they are in force."""
    return {stored.key.name: stored.revoked_s is None for stored in KeyStore(root).stored()}


_ROW = DayUsage(
    day="2026-01-01", key="a", model="m", requests=1, prompt_tokens=5, cached_tokens=0, completion_tokens=7
)


def _use(root: Path) -> None:
    UsageStore(root).add([_ROW, msgspec.structs.replace(_ROW, key="b")])


def _used(root: Path) -> list[tuple[str, int, int]]:
    return [(row.key, row.requests, row.completion_tokens) for row in UsageStore(root).read(UsageQuery())]


def _aliases(root: Path) -> tuple[str, ...]:
    record = ModelStore.in_directory(root).records().get("m")
    return () if record is None else tuple(record.aliases)


def _alias(root: Path, *names: str) -> None:
    ModelStore.in_directory(root).add_aliases("m", names)


_TOKENS = np.arange(60, dtype=np.int32)
_SLOT = np.random.default_rng(0).integers(0, 256, 5_000, dtype=np.uint8)


def _prefixes(root: Path) -> PrefixDirectory:
    directory = PrefixDirectory(root, "key", 1 << 20)
    directory.open()
    return directory


def _save_prefix(root: Path) -> None:
    # It tells by a number whether it was kept; the answers do without.
    if _prefixes(root).write(_TOKENS, "", _SLOT) == 0:
        raise OSError("not kept")


def _prefix_state(root: Path) -> State:
    directory = _prefixes(root)
    found = directory.match(_TOKENS, "", most_tokens=1 << 30, most_bytes=1 << 40)
    state = None if found is None else directory.read(found)
    assert not list(root.glob("*/*.new")) or state is None
    return "old" if state is None else _states(state.tolist(), None, _SLOT.tolist())


def _pull(server: FileServer) -> Act:
    digest = hashlib.sha256(server.content).hexdigest()

    def fetch(root: Path) -> None:
        with httpx.Client(trust_env=False) as client:
            file = RemoteFile(url=server.url, name="m.gguf", file_bytes=len(server.content), sha256=digest)
            Download(root / "models", client, sleep=lambda seconds: None).fetch(file)

    def state(root: Path) -> State:
        target = root / "models" / "m.gguf"
        return _states(target.read_bytes() if target.exists() else None, None, server.content)

    return Act("pull", lambda root: None, fetch, state, (PullError,))


def _quantization(content: bytes) -> Act:
    """Its end: what writes the bytes is a process of llama.cpp's, whose disk fails in the quantiser's own tests."""
    digest = hashlib.sha256(content).hexdigest()

    def make(root: Path) -> None:
        new = NewFile(root / "models" / "m.gguf", FileSystem())
        try:
            new.begin()
            with refusals(new.target), new.path.open("wb") as file:
                file.write(content)
            new.finish(digest)
        finally:
            new.close()

    def state(root: Path) -> State:
        target = root / "models" / "m.gguf"
        return _states(target.read_bytes() if target.exists() else None, None, content)

    return Act("quantisation", lambda root: None, make, state, (InsufficientDisk,))


@contextmanager
def acts() -> Iterator[list[Act]]:
    """All of them, with the file server that a pull asks."""
    once, twice = [("a", 1, 7), ("b", 1, 7)], [("a", 2, 14), ("b", 2, 14)]
    with tempfile.TemporaryDirectory() as directory:
        content = write_tiny(Path(directory, "m.gguf"), Tiny(layers=1)).read_bytes()
    with file_server(content) as server:
        # A client that is killed is nothing to tell of here.
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        yield [
            Act(
                "first key",
                lambda root: None,
                lambda root: _create_key(root, "alice"),
                lambda root: _states(_keys(root), {}, {"alice": True}),
                (KeyStoreError,),
            ),
            Act(
                "second key",
                lambda root: _create_key(root, "bob"),
                lambda root: _create_key(root, "alice"),
                lambda root: _states(_keys(root), {"bob": True}, {"bob": True, "alice": True}),
                (KeyStoreError,),
            ),
            Act(
                "revoked key",
                lambda root: _create_key(root, "bob"),
                lambda root: _revoke(root, "bob"),
                lambda root: _states(_keys(root), {"bob": True}, {"bob": False}),
                (KeyStoreError,),
            ),
            Act(
                "first usage",
                lambda root: None,
                _use,
                lambda root: _states(_used(root), [], once),
                (UsageStoreError,),
            ),
            Act("more usage", _use, _use, lambda root: _states(_used(root), once, twice), (UsageStoreError,)),
            Act(
                "aliases",
                lambda root: _alias(root, "x"),
                lambda root: _alias(root, "y", "z"),
                lambda root: _states(_aliases(root), ("x",), ("x", "y", "z")),
                (StoreError,),
            ),
            Act("prefix", lambda root: None, _save_prefix, _prefix_state, (OSError,)),
            _pull(server),
            _quantization(content),
        ]


def _revoke(root: Path, name: str) -> None:
    KeyStore(root).revoke(name)


def rehearse(act: Act, kind: int, *, most: int) -> dict[str, object]:
    """``act`` with the fault at its first call, its second, ... until it is through before; at most so many."""
    library = ctypes.CDLL(None)
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    calls = 0
    for at in itertools.count(1):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory, "data")
            root.mkdir()
            act.prepare(root)
            status = _in_child(library, act, root, at, kind)
            fault, state = _look(act, root, status)
            outcomes[f"{_told(status)}, {state}"] += 1
            if fault:
                faults.append(f"call {at}: {fault}")
            if state == "old" and (problem := _again(act, root)):
                faults.append(f"call {at}: not mended by doing it again: {problem}")
        if status == _UNHURT or at >= most:
            break
        calls = at
    return {
        "act": act.name,
        "kind": KINDS[kind],
        "calls": calls,
        "outcomes": dict(outcomes),
        "faults": faults,
    }


def _in_child(library: ctypes.CDLL, act: Act, root: Path, at: int, kind: int) -> int:
    """The exit status of a process that does ``act`` with a fault; negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        library.fault_arm(os.fsencode(root), ctypes.c_long(at), kind)
        try:
            act.do(root)
        except act.errors:
            os._exit(_REFUSED)
        except BaseException as error:
            os.write(2, f"{act.name}: {error!r}\n".encode())
            os._exit(_UNTYPED)
        os._exit(_DONE if library.fault_hits() else _UNHURT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _told(status: int) -> str:
    names = {_DONE: "done", _REFUSED: "refused", _UNTYPED: "untyped", _UNHURT: "unhurt"}
    return names.get(status, "killed" if status == -signal.SIGKILL else f"status {status}")


def _look(act: Act, root: Path, status: int) -> tuple[str, str]:
    """What is wrong with what was left, if anything, and which state it is."""
    try:
        state = act.state(root)
    except Exception as error:
        return f"between: {error!r}"[:300], "between"
    if status in (_DONE, _UNHURT) and state == "old":
        return "it said that it was done, and it was not", state
    if status == _UNTYPED:
        return "an error that no caller expects", state
    return "", state


def _again(act: Act, root: Path) -> str:
    try:
        act.do(root)
        return "" if act.state(root) == "new" else "still the old state"
    except Exception as error:
        return repr(error)[:300]


def main() -> None:
    most, *kinds = map(int, sys.argv[1:])
    with acts() as known:
        for act in known:
            for kind in kinds:
                print(json.dumps(rehearse(act, kind, most=most)), flush=True)


if __name__ == "__main__":
    main()
