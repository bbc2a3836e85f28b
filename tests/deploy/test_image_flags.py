"""What the image's build tells CMake, by its own lines of the Dockerfile."""

from __future__ import annotations

import subprocess

import pytest

from tests.deploy.files import DOCKERFILE


@pytest.mark.parametrize("native", ["ON", "OFF"])
def test_the_kernels_lie_apart_where_they_are_loaded_by_choice_and_only_there(native: str) -> None:
    """llama.cpp refuses GGML_BACKEND_DIR without GGML_BACKEND_DL: an image for one processor could not be built."""
    text = DOCKERFILE.read_text()
    lines = text[text.index('if [ "${GGML_NATIVE}"') : text.index("&& pip wheel --no-deps")]
    command = lines.rstrip().rstrip("\\") + '\nprintf "%s" "${CMAKE_ARGS}"'
    told = subprocess.run(
        ["sh", "-eu", "-c", command],
        env={"GGML_NATIVE": native, "CMAKE_FLAGS": "-DMINE=1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert f"-DGGML_NATIVE={native}" in told
    assert "-DMINE=1" in told
    assert ("-DGGML_BACKEND_DL=ON" in told) is (native == "OFF")
    assert any(flag.startswith("-DGGML_BACKEND_DIR=") for flag in told) is (native == "OFF")
