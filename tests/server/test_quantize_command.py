"""``nibble quantize`` as a person meets it: what it says, what it leaves, and how it is broken off."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.patience import eventually
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.fixtures.tiny_imatrix import sums_for, write_imatrix
from tests.server.nibble_process import NIBBLE, clean_environment, run_nibble


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(width=64))
    return tmp_path


def test_a_model_is_quantised_listed_and_shown(home: Path) -> None:
    result = run_nibble(home, "quantize", "tiny", "--to", "q4_k_m", "--json")
    assert result.returncode == 0, result
    made = json.loads(result.stdout)
    assert (made["id"], made["parent"], made["quantisation"]) == ("tiny-q4_k_m", "tiny", "Q4_K_M")
    assert abs(made["file_bytes"] - made["estimated_bytes"]) < 4096
    assert made["fallback_tensors"] == 15
    assert "tiny-q4_k_m.gguf will take about 0.1 MB" in result.stderr
    assert "15 of 21 tensors have rows that do not divide into blocks of Q4_K_M" in result.stderr
    assert json.loads(run_nibble(home, "show", "tiny-q4_k_m", "--json").stdout)["parent"] == "tiny"
    assert "made of tiny" in run_nibble(home, "list").stdout
    again = run_nibble(home, "quantize", "tiny", "--to", "Q4_K_M")
    assert (again.returncode, "--name" in again.stderr) == (1, True)


def test_rounding_twice_is_refused_with_its_price_and_allowed_with_it(home: Path) -> None:
    assert run_nibble(home, "quantize", "tiny", "--to", "q4_0").returncode == 0
    refused = run_nibble(home, "quantize", "tiny-q4_0", "--to", "q5_0")
    assert refused.returncode == 1
    assert "is rounded a second time" in refused.stderr
    assert refused.stderr.endswith("allow it (allow_requantize, or --allow-requantize)\n")
    allowed = run_nibble(
        home,
        "quantize",
        "tiny-q4_0",
        "--to",
        "q5_0",
        "--allow-requantize",
        "--name",
        "twice",
        "--threads",
        "1",
    )
    assert allowed.returncode == 0, allowed
    assert "is rounded a second time" in allowed.stderr
    assert allowed.stdout.startswith("twice: Q5_0, 0.1 MB (115% of tiny-q4_0's ")


def test_an_unknown_type_is_told_with_the_list_and_so_is_the_help(home: Path) -> None:
    result = run_nibble(home, "quantize", "tiny", "--to", "q4km")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "there are F32, F16, BF16, Q8_0" in result.stderr
    assert "Q4_K_M" in run_nibble(home, "quantize", "--help").stdout
    assert run_nibble(home, "quantize", "tiny").returncode == 2, "a type must be named"


def test_an_importance_matrix_is_used_and_what_is_wrong_with_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(width=256, layers=1))
    sums = sums_for(model)
    write_imatrix(tmp_path / "imatrix.gguf", sums)
    refused = run_nibble(tmp_path, "quantize", "tiny", "--to", "iq2_xxs")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "'nibble quantize --imatrix'" in refused.stderr
    # A name beside where the command is given.
    made = run_nibble(tmp_path, "quantize", "tiny", "--to", "iq2_xxs", "--imatrix", "imatrix.gguf", "--json")
    assert made.returncode == 0, made
    told = json.loads(made.stdout)
    assert (told["quantisation"], told["unweighed_tensors"]) == ("IQ2_XXS", 1)
    assert told["imatrix"] == str(tmp_path / "imatrix.gguf")
    assert "1 of 12 tensors are rounded without the importance matrix" in made.stderr
    wrong = run_nibble(tmp_path, "quantize", "tiny", "--to", "q4_0", "--imatrix", "models/tiny.gguf")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "tiny.gguf is no importance matrix, or a damaged one" in wrong.stderr


@pytest.mark.model
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_breaking_off_in_the_middle_ends_the_process_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    options = ("--to", "Q5_K_M", "--allow-requantize", "--threads", "1")
    process = subprocess.Popen(
        [NIBBLE, "quantize", "smollm2-135m-instruct", *options],
        env=clean_environment(tmp_path),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    part = tmp_path / "models" / ".smollm2-135m-instruct-q5_k_m.gguf.new"
    eventually(lambda: part.exists() and part.stat().st_size, bool, "the new file grows")
    helpers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    for helper in helpers:
        eventually(helper.is_running, lambda runs: not runs, "the quantiser is gone")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.model
def test_the_bundled_model_is_quantised_and_answers(tmp_path: Path) -> None:
    result = run_nibble(
        tmp_path, "quantize", "smollm2-135m-instruct", "--to", "Q8_0", "--allow-requantize", "--json"
    )
    assert result.returncode == 0, result
    made = json.loads(result.stdout)
    assert abs(made["file_bytes"] - made["estimated_bytes"]) < 4096
    assert 140e6 < made["file_bytes"] < 150e6
    assert "next to nothing" in made["cost"]
