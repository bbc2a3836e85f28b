"""What a confined process can no longer do, tried in processes of their own, since none of it can be undone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.end_to_end.patience import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="most of it is Linux's")

_ROOT = Path(__file__).resolve().parents[2]
_PREAMBLE = """
import ctypes, os, resource, socket, threading
from engine.config import EngineConfig
from engine.confinement import Confinement, address_bytes
config = EngineConfig(model_id="m", model_path="m.gguf")
def attempt(act):
    try:
        return act() and "done"
    except BaseException as error:
        return type(error).__name__
"""


def run(program: str) -> list[str]:
    """The lines that ``program`` prints."""
    done = subprocess.run(
        [sys.executable, "-c", _PREAMBLE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_a_confined_process_has_no_network_and_nor_have_its_threads_and_children() -> None:
    told = run(
        """
        ready, go = threading.Event(), threading.Event()
        def other():
            ready.set()
            go.wait()
            print(attempt(lambda: socket.socket(socket.AF_INET)))
        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        Confinement(config, has_gpu=False).begin()
        go.set()
        thread.join()
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            print(attempt(lambda: socket.socket(family)))
        child = "import socket; socket.socket(socket.AF_INET)"
        import subprocess, sys
        print(subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL).returncode)
        one, two = os.pipe()
        os.write(two, b"x")
        print(os.read(one, 1).decode())
        """
    )
    assert told == ["PermissionError"] * 4 + ["1", "x"]


def test_beside_a_gpu_sockets_of_this_machine_are_left() -> None:
    told = run(
        """
        Confinement(config, has_gpu=True).begin()
        for family in (socket.AF_INET, socket.AF_UNIX):
            print(attempt(lambda: socket.socket(family)))
        """
    )
    assert told == ["PermissionError", "done"]


def test_a_confined_process_cannot_look_into_its_parent() -> None:
    told = run(
        """
        Confinement(config, has_gpu=False).begin()
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.ptrace(16, os.getppid(), 0, 0), ctypes.get_errno())
        """
    )
    assert told == ["-1", "13"]


def test_what_is_bounded() -> None:
    told = run(
        """
        before = address_bytes()
        confinement = Confinement(config, has_gpu=False)
        confinement.begin()
        confinement.bound_memory(1 << 30)
        print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1024)
        limit = resource.getrlimit(resource.RLIMIT_AS)[1]
        print(5 << 30 <= limit - before < 6 << 30)
        print(attempt(lambda: bytearray(4 << 30)), attempt(lambda: bytearray(6 << 30)))
        print(open("/proc/self/oom_score_adj").read())
        """
    )
    assert told[:4] == ["(0,", "0)", "True", "True"]
    assert told[4:6] == ["done", "MemoryError"]
    assert int(told[6]) >= 500


def test_with_a_gpu_addresses_are_not_bounded_and_unconfined_nothing_is() -> None:
    told = run(
        """
        import msgspec
        before = [resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)]
        Confinement(config, has_gpu=True).bound_memory(1)
        free = Confinement(msgspec.structs.replace(config, is_confined=False), has_gpu=False)
        free.begin()
        free.bound_memory(1)
        print(before == [resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE)])
        print(attempt(lambda: socket.socket(socket.AF_INET)))
        """
    )
    assert told == ["True", "done"]


def test_what_the_system_refuses_is_logged_and_no_more() -> None:
    told = run(
        """
        import logging, sys
        from engine import system_call_filter
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        system_call_filter._MACHINES = {}
        Confinement(config, has_gpu=False).begin()
        """
    )
    assert " ".join(told).startswith("the worker of m: it keeps its network (")


_PARENT = """
import subprocess, sys
child = '''
from engine.config import EngineConfig
from engine.confinement import Confinement
import sys, time
Confinement(EngineConfig(model_id="m", model_path="", prefix_disk_bytes=int(sys.argv[1])), has_gpu=False).begin()
print("confined", flush=True)
time.sleep(600)
'''
process = subprocess.Popen([sys.executable, "-c", child, sys.argv[1]], stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
sys.stdin.read()
"""


def test_a_confined_process_dies_with_its_parent_even_when_it_does_nothing() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _lives(child)
        parent.kill()
    eventually(lambda: _lives(child), lambda lives: not lives, "the child has died")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
