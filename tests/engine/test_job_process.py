"""Jobs with real processes: they are heard to the end, end when told to, and outlive nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from engine.job_process import KILLED, JobCancelled, JobProcess
from tests.end_to_end.patience import eventually

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def _job(word: str, cancel: threading.Event | None = None) -> JobProcess:
    return JobProcess("tests.fakes.job", word.encode(), cancel)


def test_everything_is_heard_in_order_whatever_goes_to_standard_error() -> None:
    with _job("much") as job:
        lines = list(job.lines())
        assert job.end() == (0, "ended with status 0 (noise)")
    assert lines[0].startswith(b"heard much")
    assert lines[1:] == [str(number).encode() for number in range(20_000)]


@pytest.mark.parametrize(
    ("word", "status", "words"),
    [
        ("abort", -signal.SIGABRT, "was ended by SIGABRT (my last words)"),
        ("kill", KILLED, "was ended by SIGKILL"),
    ],
)
def test_a_death_is_told_with_its_cause(word: str, status: int, words: str) -> None:
    with _job(word) as job:
        assert len(list(job.lines())) == 1
        assert job.end() == (status, words)


def test_a_job_ends_when_it_is_told_to() -> None:
    cancel = threading.Event()
    with _job("wait", cancel) as job:
        lines = job.lines()
        pid = int(next(lines).split()[-1])
        assert next(lines) == b"waiting"
        cancel.set()
        with pytest.raises(JobCancelled):
            next(lines)
    assert not psutil.pid_exists(pid)


def test_a_job_ends_with_whoever_lets_go_of_it() -> None:
    with _job("wait") as job:
        pid = int(next(job.lines()).split()[-1])
    assert not psutil.pid_exists(pid)


def test_a_job_outlives_nobody_who_is_killed_and_clears_up(tmp_path: Path) -> None:
    program = (
        "from engine.job_process import JobProcess\n"
        "with JobProcess('tests.fakes.job', b'wait') as job:\n"
        "    for line in job.lines(): print(line.decode(), flush=True)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    pid = int(holder.stdout.readline().split()[-1])
    assert holder.stdout.readline() == "waiting\n"
    assert (tmp_path / "left-behind").exists()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    eventually(lambda: psutil.pid_exists(pid), lambda lives: not lives, "the job is gone")
    assert not (tmp_path / "left-behind").exists()


def test_ctrl_c_is_for_the_holder_alone() -> None:
    with _job("wait") as job:
        lines = job.lines()
        pid = int(next(lines).split()[-1])
        assert next(lines) == b"waiting"
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        assert psutil.Process(pid).is_running()
