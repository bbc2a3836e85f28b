"""How long threads are to wait for each other, by what the kernel tells of their waiting for a core."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backend import Logits
from engine.calibration import measure_rates
from engine.contention import Contention
from engine.patience import HASTY_US, PATIENT_US, Patience
from tests.fakes.backend import FakeBackend, HashModel


class _Machine:
    """A kernel that tells how long two threads ran and waited, a clock, and whoever is told the patience."""

    def __init__(self, tasks: Path) -> None:
        self._tasks = tasks
        self._ran_s = self._waited_s = 0.0
        self.now_s = 50.0
        self.told: list[int] = []
        self.is_heard = True
        self.pass_time(0.0, ran_s=0.0, waited_s=0.0)

    def pass_time(self, elapsed_s: float, *, ran_s: float, waited_s: float) -> None:
        self.now_s += elapsed_s
        self._ran_s += ran_s
        self._waited_s += waited_s
        for name in ("one", "two"):
            (self._tasks / name).mkdir(exist_ok=True)
            figures = f"{int(self._ran_s / 2 * 1e9)} {int(self._waited_s / 2 * 1e9)} 7\n"
            (self._tasks / name / "schedstat").write_text(figures)

    def tell(self, microseconds: int) -> bool:
        self.told.append(microseconds)
        return self.is_heard

    def patience(self, threads: int = 2) -> Patience:
        return Patience(
            threads,
            self.tell,
            observe=lambda count: Contention(count, self._tasks, lambda: self.now_s),
            clock=lambda: self.now_s,
        )


@pytest.fixture
def machine(tmp_path: Path) -> _Machine:
    return _Machine(tmp_path)


def test_threads_are_patient_until_somebody_else_wants_the_cores_and_again_when_he_is_gone(
    machine: _Machine,
) -> None:
    patience = machine.patience()
    assert machine.told == [PATIENT_US]
    machine.pass_time(1.0, ran_s=1.8, waited_s=0.05)
    patience.after_step()
    assert machine.told == [PATIENT_US], "the server's own processes are no crowd"
    machine.pass_time(1.0, ran_s=0.9, waited_s=0.7)
    patience.after_step()
    machine.pass_time(1.0, ran_s=0.9, waited_s=0.7)
    patience.after_step()
    assert machine.told == [PATIENT_US, HASTY_US]
    machine.pass_time(1.0, ran_s=1.0, waited_s=0.02)
    patience.after_step()
    assert machine.told == [PATIENT_US, HASTY_US, PATIENT_US]


def test_a_long_idle_time_does_not_thin_out_what_came_before_and_behind_it(machine: _Machine) -> None:
    patience = machine.patience()
    machine.pass_time(3600.0, ran_s=0.2, waited_s=0.2)
    patience.after_step()
    assert machine.told == [PATIENT_US, HASTY_US]


def test_little_is_no_ground_to_decide_on_and_is_counted_with_what_follows(machine: _Machine) -> None:
    patience = machine.patience()
    machine.pass_time(1.0, ran_s=0.01, waited_s=0.05)
    patience.after_step()
    assert machine.told == [PATIENT_US]
    machine.pass_time(0.1, ran_s=0.03, waited_s=0.05)
    patience.after_step()
    assert machine.told == [PATIENT_US, HASTY_US]


def test_nobody_looks_more_often_than_twice_a_second(machine: _Machine) -> None:
    patience = machine.patience()
    machine.pass_time(0.4, ran_s=0.3, waited_s=0.3)
    patience.after_step()
    assert machine.told == [PATIENT_US]


def test_a_build_without_such_a_barrier_and_a_thread_alone_are_left_in_peace(machine: _Machine) -> None:
    machine.is_heard = False
    deaf, alone = machine.patience(), machine.patience(threads=1)
    machine.pass_time(1.0, ran_s=0.9, waited_s=0.9)
    deaf.after_step()
    alone.after_step()
    assert machine.told == [PATIENT_US], "asked once, by the deaf one"


def test_where_no_kernel_counts_nobody_is_told_to_be_patient(machine: _Machine, tmp_path: Path) -> None:
    looks: list[int] = []

    def observe(threads: int) -> Contention:
        looks.append(threads)
        return Contention(threads, tmp_path / "none", lambda: machine.now_s)

    patience = Patience(2, machine.tell, observe=observe, clock=lambda: machine.now_s)
    for _ in range(3):
        machine.pass_time(1.0, ran_s=0.9, waited_s=0.9)
        patience.after_step()
    assert machine.told == []
    assert looks == [2], "it looked once, and not at each step"


def test_a_measurement_waits_as_a_worker_does(machine: _Machine) -> None:
    class _Beside(FakeBackend):
        """Computes beside somebody else."""

        def decode(self, count: int, outputs: int) -> Logits:
            machine.pass_time(0.6, ran_s=0.5, waited_s=0.5)
            return super().decode(count, outputs)

    rates = list(measure_rates(_Beside(HashModel(64, (5, 6))), machine.patience(), (16,), (1,)))
    assert [(rate.kind, rate.size) for rate in rates] == [("prefill", 16), ("decode", 1)]
    assert machine.told == [PATIENT_US, HASTY_US]
