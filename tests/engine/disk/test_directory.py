"""The directory of saved prefixes: found again, bounded, whole after every failure, and empty of what is damaged."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.backend import SlotState, Tokens
from engine.disk.directory import DiskPrefix, PrefixDirectory
from engine.disk.file_system import FileSystem

_ROOT = Path(__file__).resolve().parents[3]
_ANY = {"most_tokens": 1 << 30, "most_bytes": 1 << 40}


def _tokens(*parts: range) -> Tokens:
    return np.array([token for part in parts for token in part], dtype=np.int32)


def _state(seed: int, size: int = 400) -> SlotState:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def _directory(
    root: Path, limit_bytes: int = 1 << 20, key: str = "key", system: FileSystem | None = None
) -> PrefixDirectory:
    directory = PrefixDirectory(root, key, limit_bytes, system=system)
    directory.open()
    return directory


def _found(directory: PrefixDirectory, prompt: Tokens, scope: str = "") -> DiskPrefix:
    found = directory.match(prompt, scope, **_ANY)
    assert found is not None
    return found


def _read(directory: PrefixDirectory, prompt: Tokens, scope: str = "") -> SlotState | None:
    found = directory.match(prompt, scope, **_ANY)
    return None if found is None else directory.read(found)


def test_what_was_written_is_found_and_read_by_the_next(tmp_path: Path) -> None:
    for end in (300, 400):
        _directory(tmp_path).write(_tokens(range(end // 10), range(end, end + 50)), "", _state(end))
    found = _found(_directory(tmp_path), _tokens(range(60)))
    assert found.shared(_tokens(range(60))) == 40
    state = _directory(tmp_path).read(found)
    assert state is not None
    assert state.tolist() == _state(400).tolist()


def test_only_the_owner_may_read_and_no_name_tells_a_scope(tmp_path: Path) -> None:
    _directory(tmp_path / "root").write(_tokens(range(50)), "key of Alice", _state(1))
    (file,) = (tmp_path / "root" / "key").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (file.parent, file.parent.parent)} == {0o700}
    assert b"Alice" not in file.read_bytes()
    assert "Alice" not in str(file)


def test_scopes_and_keys_share_nothing(tmp_path: Path) -> None:
    tokens = _tokens(range(50))
    directory = _directory(tmp_path)
    directory.write(tokens, "one", _state(1))
    for other in (directory, _directory(tmp_path)):
        assert _read(other, tokens, "two") is None
        assert _read(other, tokens, "one") is not None
    assert _read(_directory(tmp_path, key="other"), tokens, "one") is None


def test_what_fits_into_no_slot_or_memory_is_not_found(tmp_path: Path) -> None:
    directory, tokens = _directory(tmp_path), _tokens(range(50))
    directory.write(tokens, "", _state(1))
    assert directory.match(tokens, "", most_tokens=49, most_bytes=400) is None
    assert directory.match(tokens, "", most_tokens=50, most_bytes=399) is None
    assert directory.match(tokens, "", most_tokens=50, most_bytes=400) is not None


def test_what_goes_on_takes_the_place_of_its_beginning(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    for end in (50, 80):
        directory.write(_tokens(range(end)), "", _state(end))
    assert len(directory) == len(list((tmp_path / "key").iterdir())) == 1
    held = directory.holder(_tokens(range(50)), "")
    assert held is not None
    assert len(held.tokens) == 80


def test_the_limit_holds_for_all_models_and_models_that_are_gone_go_first(tmp_path: Path) -> None:
    _directory(tmp_path, key="gone").write(_tokens(range(50)), "", _state(1))
    directory = _directory(tmp_path, limit_bytes=1600)
    first, second = _tokens(range(100, 150)), _tokens(range(200, 250))
    assert directory.write(first, "", _state(2)) > 0
    assert directory.write(second, "", _state(3)) > 0
    assert not (tmp_path / "gone").exists()
    assert _read(directory, first) is not None
    assert directory.write(_tokens(range(300, 350)), "", _state(4)) > 0
    assert _read(directory, second) is None, "longest unused"
    assert _read(directory, first) is not None
    assert directory.write(_tokens(range(50)), "", _state(5, 1600)) == 0, "larger than the limit"
    assert _read(directory, first) is not None


def test_nothing_that_was_used_later_is_removed_for_something_older(tmp_path: Path) -> None:
    directory = _directory(tmp_path, limit_bytes=800)
    directory.write(_tokens(range(50)), "", _state(1), used_ns=2_000)
    assert directory.write(_tokens(range(100, 150)), "", _state(2), used_ns=1_000) == 0
    assert directory.write(_tokens(range(100, 150)), "", _state(2), used_ns=3_000) > 0
    assert len(directory) == 1


def test_a_lower_limit_holds_from_the_start(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    for first in range(0, 5000, 1000):
        directory.write(_tokens(range(first, first + 50)), "", _state(first))
    assert len(_directory(tmp_path, limit_bytes=1600)) == 2


def test_a_file_that_another_worker_removed_is_not_found(tmp_path: Path) -> None:
    one, other, tokens = _directory(tmp_path), _directory(tmp_path), _tokens(range(50))
    one.write(tokens, "", _state(1))
    other = _directory(tmp_path)
    one.remove(_found(one, tokens))
    other.touch(_found(other, tokens))
    assert other.holder(tokens, "") is None


def test_a_save_that_is_late_leaves_nothing(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    asked = itertools.count()
    late: Callable[[], bool] = lambda: next(asked) > 0  # noqa: E731
    assert directory.write(_tokens(range(50)), "", _state(1), is_late=late) == 0
    assert list((tmp_path / "key").iterdir()) == []


def _one_file(root: Path) -> Path:
    _directory(root).write(_tokens(range(50)), "scope", _state(1))
    (file,) = (root / "key").iterdir()
    return file


def test_every_damaged_byte_is_found_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, tokens = _one_file(tmp_path), _tokens(range(50))
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        # Damage before and after the index was made.
        assert _read(_directory(tmp_path), tokens, "scope") is None, f"byte {at}"
        assert not file.exists()
        file.write_bytes(whole)
        directory = _directory(tmp_path)
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        assert _read(directory, tokens, "scope") is None, f"byte {at}"
        assert not file.exists()
        assert len(directory) == 0
    assert "is removed" in caplog.text


def test_every_length_but_the_right_one_is_found_out(tmp_path: Path) -> None:
    file, tokens = _one_file(tmp_path), _tokens(range(50))
    whole = file.read_bytes()
    for data in (*(whole[:end] for end in range(len(whole))), whole + b"x"):
        file.write_bytes(data)
        assert _read(_directory(tmp_path), tokens, "scope") is None
        assert not file.exists()


def test_a_file_under_another_name_or_key_is_removed(tmp_path: Path) -> None:
    file = _one_file(tmp_path)
    data = file.read_bytes()
    renamed, moved = file.with_stem("0" * 40), tmp_path / "other" / file.name
    moved.parent.mkdir()
    for path in (renamed, moved):
        path.write_bytes(data)
    assert len(_directory(tmp_path)) == 1
    assert len(_directory(tmp_path, key="other")) == 0
    assert not renamed.exists()
    assert not moved.exists()


@given(data=st.binary(max_size=300), has_magic=st.booleans())
def test_whatever_a_file_holds_is_no_prefix(data: bytes, has_magic: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        file = Path(root, "key", "a.prefix")
        file.parent.mkdir()
        file.write_bytes(b"NIBBLEPX\1\0\0\0" + data if has_magic else data)
        assert len(_directory(Path(root))) == 0
        assert not file.exists()


_PREFIXES = [_tokens(range(first, first + 20)) for first in range(0, 800, 100)]


@settings(deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(["write", "read", "open"]), st.integers(0, 7), st.integers(1, 300)),
        max_size=25,
    )
)
def test_it_forgets_as_an_obvious_list_does(acts: list[tuple[str, int, int]]) -> None:
    """``kept`` lists prefixes with their sizes, the longest unused first."""
    kept: list[tuple[int, int]] = []
    clock, limit = itertools.count(1_000_000_000), 1500
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def opened() -> PrefixDirectory:
            directory = PrefixDirectory(root, "key", limit, clock_ns=lambda: next(clock))
            directory.open()
            return directory

        directory = opened()
        for act, number, size in acts:
            tokens = _PREFIXES[number]
            held = dict(kept)
            if act == "open":
                directory = opened()
            elif act == "read":
                state = _read(directory, tokens)
                assert (state is not None) == (number in held)
                if state is not None:
                    kept = [one for one in kept if one[0] != number] + [(number, held[number])]
            elif number not in held:
                written = directory.write(tokens, "", _state(number, size))
                while kept and sum(each for _, each in kept) + written > limit:
                    kept.pop(0)
                kept.append((number, written))
            files = list((root / "key").iterdir())
            assert len(directory) == len(files) == len(kept)
            assert sum(file.stat().st_size for file in files) == sum(size for _, size in kept) <= limit


class _Failing(FileSystem):
    """Fails at the ``at``-th call of what changes the disk; at all from there on, if the process is to have died."""

    def __init__(self, at: int, *, is_dead: bool) -> None:
        self.at, self.is_dead, self.calls = at, is_dead, 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.at or (self.is_dead and self.calls > self.at):
            raise OSError(errno.ENOSPC, "as the test asked")

    def make_directory(self, path: Path) -> None:
        self._call()
        super().make_directory(path)

    def create(self, path: Path) -> int:
        self._call()
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> None:
        try:
            self._call()
        except OSError:
            # A full disk takes what it has room for.
            super().write(descriptor, data[: len(data) // 2])
            raise
        super().write(descriptor, data)

    def set_used(self, target: int | Path, used_ns: int) -> None:
        self._call()
        super().set_used(target, used_ns)

    def sync(self, descriptor: int) -> None:
        self._call()
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._call()
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._call()
        super().sync_directory(path)

    def remove(self, path: Path) -> None:
        self._call()
        super().remove(path)


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_failure_at_any_call_leaves_the_old_state_or_the_new(tmp_path: Path, is_dead: bool) -> None:
    """Saving what replaces a beginning and pushes another out: what is there afterwards is whole, and known."""
    beginning, victim, longer = _tokens(range(50)), _tokens(range(500, 550)), _tokens(range(60))
    outcomes = set()
    for at in itertools.count(1):
        root = tmp_path / str(at)
        seed = _directory(root)
        seed.write(victim, "", _state(2), used_ns=1_000)
        seed.write(beginning, "", _state(1))
        system = _Failing(10**9, is_dead=is_dead)
        directory = _directory(root, limit_bytes=2000, system=system)
        system.calls, system.at = 0, at
        failed = False
        try:
            directory.write(longer, "", _state(3, 500))
        except OSError:
            failed = True
        left = {path.suffix for path in (root / "key").iterdir()}
        assert left <= ({".prefix", ".part"} if is_dead else {".prefix"}), f"call {at}"
        for each in (directory, after := _directory(root)):
            for tokens, state in ((beginning, _state(1)), (victim, _state(2)), (longer, _state(3, 500))):
                found = each.match(tokens, "", **_ANY)
                if found is not None and len(found.tokens) == len(tokens):
                    read = each.read(found)
                    assert read is not None or each is directory, f"call {at}"
                    assert read is None or read.tolist() == state.tolist()
        assert after.holder(beginning, "") is not None, "the old one or the new one holds it"
        assert {path.suffix for path in (root / "key").iterdir()} == {".prefix"}, "nothing unfinished is left"
        outcomes.add(after.holder(longer, "") is not None)
        if not failed and system.calls < at:
            break
    assert outcomes == {False, True}


def test_another_workers_unfinished_file_is_left_to_it(tmp_path: Path) -> None:
    directory = tmp_path / "key"
    directory.mkdir()
    mine, gone = directory / "a.part", directory / "b.part"
    descriptor = FileSystem().create(mine)
    gone.write_bytes(b"x")
    _directory(tmp_path)
    assert mine.exists()
    assert not gone.exists()
    os.close(descriptor)
    _directory(tmp_path)
    assert not mine.exists()


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from engine.disk.directory import PrefixDirectory

directory = PrefixDirectory(Path(sys.argv[1]), "key", 1 << 30)
directory.open()
state = np.zeros(20_000_000, dtype=np.uint8)
for number in range(10**6):
    directory.write(np.arange(50, dtype=np.int32) + number % 7 * 1000, "", state)
    print(number, flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_no_half_file(tmp_path: Path) -> None:
    for _ in range(3):
        command = [sys.executable, "-c", _WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        finals = list((tmp_path / "key").glob("*.prefix"))
        directory = _directory(tmp_path, limit_bytes=1 << 30)
        assert len(directory) == len(finals) > 0, "every file under its final name is whole"
        for number in range(7):
            found = directory.match(np.arange(50, dtype=np.int32) + number * 1000, "", **_ANY)
            assert found is None or directory.read(found) is not None
        assert list((tmp_path / "key").glob("*.part")) == []
