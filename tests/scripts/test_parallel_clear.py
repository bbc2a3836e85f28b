"""What llama.cpp clears its KV cache with: compiled as the build does it, every byte set and none beside."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

_HEADER = Path(__file__).parents[2] / "scripts" / "parallel_clear.h"
_PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <sys/resource.h>
int main(int count, char ** arguments) {
    const size_t size = strtoull(arguments[1], nullptr, 10), edge = 64;
    unsigned char * const at = static_cast<unsigned char *>(malloc(size + 2 * edge));
    if (at == nullptr) return 2;
    for (size_t i = 0; i < size + 2 * edge; i++) at[i] = 0xAA;
    if (count > 2) {  // no thread gets a stack any more
        struct rlimit none = {1, 1};
        if (setrlimit(RLIMIT_AS, &none) != 0) return 3;
    }
    if (memset(at + edge, 7, size) != at + edge) return 4;
    for (size_t i = 0; i < size + 2 * edge; i++) {
        if (at[i] != (i >= edge && i < edge + size ? 7 : 0xAA)) { printf("byte %zu is %d\n", i, at[i]); return 5; }
    }
    return 0;
}
"""
_MIB = 1 << 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C++ compiler: llama.cpp came as a wheel")
    directory = tmp_path_factory.mktemp("clear")
    source, program = directory / "clear.cpp", directory / "clear"
    source.write_text(_PROGRAM)
    flags = ["-std=c++17", "-O2", "-Wall", "-Werror", "-pthread", "-include", str(_HEADER)]
    subprocess.run([*compiler, *flags, str(source), "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize("size", [0, 1, 64 * _MIB, 128 * _MIB, 128 * _MIB + 1, 193 * _MIB - 5])
@pytest.mark.parametrize("without_threads", [False, True])
def test_every_byte_is_set_and_none_beside(program: Path, size: int, *, without_threads: bool) -> None:
    command = [str(program), str(size), *(["alone"] if without_threads else [])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")
