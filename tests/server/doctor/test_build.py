"""What becomes of a library that does not load: processes that really end so."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from server.doctor.build import Built, check_loading, check_processor, examine_build
from server.doctor.finding import Finding


def test_the_build_of_this_environment_loads() -> None:
    built = examine_build()
    assert isinstance(built, Built)
    assert check_loading(built).status == "ok"
    assert built.version in check_loading(built).text
    assert check_processor(built).status in ("ok", "warn")


def _program(text: str) -> tuple[str, ...]:
    return sys.executable, "-c", text


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            f"import os; os.kill(os.getpid(), {signal.SIGILL:d})",
            "SIGILL, as a library does that was built for",
        ),
        (f"import os; os.kill(os.getpid(), {signal.SIGSEGV:d})", "SIGSEGV"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("pass", "tells nothing of itself"),
        ("print('{}')", "tells nothing of itself"),
    ],
)
def test_one_that_does_not_is_told_with_the_mend(program: str, words: str) -> None:
    found = examine_build(_program(program))
    assert isinstance(found, Finding)
    assert found.status == "fail"
    assert words in found.text
    assert "make clean setup" in found.mend
    assert check_loading(found) is found
    assert check_processor(found).status == "warn"


def test_a_program_that_is_not_there_is_told() -> None:
    found = examine_build(("/no/such/program",))
    assert isinstance(found, Finding)
    assert found.status == "fail"


@pytest.mark.parametrize(
    ("flags", "backend", "missing"),
    [
        ("flags : fpu avx2 avx512f", "CPU (AVX, AVX2, AVX512)", ""),
        ("flags : fpu avx2 avx512f avx512_vnni", "CPU (AVX, AVX2)", "AVX512, AVX512_VNNI"),
        ("Features : fp asimd asimddp i8mm", "CPU (NEON)", "DOTPROD, MATMUL_INT8"),
        ("flags : fpu avx2", "CPU", "AVX2"),
        ("model name : nothing told", "CPU", ""),
    ],
)
def test_what_the_processor_has_and_the_build_does_not_use(
    tmp_path: Path, flags: str, backend: str, missing: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\n{flags}\n")
    found = check_processor(Built("1", backend), cpuinfo)
    assert found.status == ("warn" if missing else "ok")
    if missing:
        assert f"it has {missing}, and" in found.text
        assert "make clean setup" in found.mend


def test_a_gpu_and_a_system_that_tells_nothing_are_well(tmp_path: Path) -> None:
    assert check_processor(Built("1", "Metal", True)).status == "ok"
    assert check_processor(Built("1", "CPU"), tmp_path / "none").status == "ok"
