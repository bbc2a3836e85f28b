"""What llama.cpp clears its KV cache with, compiled as the build does it: all of it set, none beside, no page taken."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_HEADER = Path(__file__).parents[2] / "scripts" / "lazy_clear.h"
_PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <sys/resource.h>
static long resident_kib() {
    long kib = -1;
    char line[256];
    if (FILE * status = fopen("/proc/self/status", "r")) {
        while (fgets(line, sizeof line, status)) sscanf(line, "VmRSS: %ld", &kib);
        fclose(status);
    }
    return kib;
}
int main(int count, char ** arguments) {
    const size_t size = strtoull(arguments[1], nullptr, 10), edge = 64;
    const int value = atoi(arguments[2]);
    unsigned char * const at = static_cast<unsigned char *>(malloc(size + 2 * edge));
    if (at == nullptr) return 2;
    for (size_t i = 0; i < size + 2 * edge; i++) at[i] = 0xAA;
    if (count > 3 && mlock(at, size) != 0) return 77;  // then its pages cannot be given back
    if (memset(at + edge, value, size) != at + edge) return 4;
    const long resident = resident_kib();
    for (size_t i = 0; i < size + 2 * edge; i++) {
        if (at[i] != (i >= edge && i < edge + size ? value : 0xAA)) { printf("byte %zu is %d\n", i, at[i]); return 5; }
    }
    printf("%ld", resident);
    return 0;
}
"""
_MIB = 1 << 20
_SKIPPED = 77


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C++ compiler: llama.cpp came as a wheel")
    directory = tmp_path_factory.mktemp("clear")
    source, program = directory / "clear.cpp", directory / "clear"
    source.write_text(_PROGRAM)
    flags = ["-std=c++17", "-O2", "-Wall", "-Werror", "-include", str(_HEADER)]
    subprocess.run([*compiler, *flags, str(source), "-o", str(program)], check=True)
    return program


def _run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("size", [0, 1, 64 * _MIB - 1, 64 * _MIB, 128 * _MIB + 1, 193 * _MIB - 5])
@pytest.mark.parametrize("value", [0, 7])
def test_every_byte_is_set_and_none_beside(program: Path, size: int, value: int) -> None:
    ran = _run(program, size, value)
    assert ran.returncode == 0, ran.stdout


def test_memory_that_is_locked_is_cleared_all_the_same(program: Path) -> None:
    ran = _run(program, 64 * _MIB, 0, "locked")
    if ran.returncode == _SKIPPED:
        pytest.skip("this system lets no process lock so much memory")
    assert ran.returncode == 0, ran.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives pages back in this way")
@pytest.mark.parametrize(("value", "is_taken"), [(0, False), (7, True)])
def test_clearing_takes_no_page(program: Path, value: int, *, is_taken: bool) -> None:
    resident_kib = int(_run(program, 256 * _MIB, value).stdout)
    assert (resident_kib > 200 * 1024) is is_taken
