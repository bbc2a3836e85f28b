"""Models that come from elsewhere, with the real worker that tries them out."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from model_registry.catalog.catalog import catalog
from model_registry.pull.download_tally import DownloadTally
from model_registry.store.model_store import ModelStore
from tests.end_to_end.patience import eventually
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.pull.file_server import FileServer, drops_after, file_server, stalls_after
from tests.server.nibble_process import NIBBLE, clean_environment, run_nibble

_LOCAL = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


@pytest.fixture
def server(tmp_path: Path) -> Generator[FileServer]:
    with file_server(
        write_tiny(tmp_path / "made.bin", Tiny(template="{{ messages }}")).read_bytes()
    ) as started:
        yield started


def test_a_model_is_pulled_tried_out_and_known(tmp_path: Path, server: FileServer) -> None:
    server.steps = [drops_after(50_000)]
    result = run_nibble(tmp_path, "pull", server.url, **_LOCAL)
    assert (result.returncode, result.stdout) == (0, result.stdout), result
    assert result.stdout.startswith("model: llama, ")
    assert result.stdout.endswith("it works\n")
    shown = json.loads(run_nibble(tmp_path, "show", "model", "--json").stdout)
    assert (shown["architecture"], shown["context"], shown["source"]) == ("llama", 128, server.url)
    assert shown["capabilities"] == ["chat", "completion", "tools"]
    assert len(shown["sha256"]) == len(shown["template_sha256"]) == 64
    assert run_nibble(tmp_path, "pull", server.url, **_LOCAL).returncode == 0
    assert len(server.seen) == 2, "what is there is not fetched again"
    assert DownloadTally(tmp_path).read() == {"http": len(server.content)}


def test_a_model_that_was_cut_short_is_told_and_listed(tmp_path: Path, server: FileServer) -> None:
    server.content = server.content[:-2000]
    result = run_nibble(tmp_path, "pull", server.url, **_LOCAL)
    assert result.returncode == 1
    assert "model" in result.stderr.splitlines()[-1]
    assert "model" in run_nibble(tmp_path, "list").stdout


def test_a_file_that_lies_elsewhere_is_linked(tmp_path: Path) -> None:
    elsewhere = write_tiny(tmp_path / "Elsewhere.gguf")
    result = run_nibble(tmp_path, "import", str(elsewhere))
    assert result.stdout.startswith("elsewhere: llama, "), result
    assert (tmp_path / "models" / "Elsewhere.gguf").readlink() == elsewhere
    assert run_nibble(tmp_path, "rm", "elsewhere", "--yes").returncode == 0
    assert elsewhere.exists(), "a link was removed, and not what it leads to"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04 a zip file and more", "is not a GGUF file"),
    ],
)
def test_what_is_no_model_is_not_linked(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    result = run_nibble(tmp_path, "import", str(path))
    assert (result.returncode, words in result.stderr) == (1, True), result
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cut", "bytes): the download was cut short, download it again"),
        ("head", "is damaged in its header (it ends too early): download it again"),
        ("foreign", "has the architecture 'lxama', which this build does not know"),
        ("damaged", "is damaged (check_tensor_dims: tensor 'blk.0.attn_q.weight' not found)"),
    ],
)
def test_what_does_not_load_is_told_by_its_cause(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / f"{name}.gguf"
    whole = write_tiny(path).read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-2000],
            "head": whole[:400],
            "foreign": whole.replace(b"llama", b"lxama"),
            "damaged": whole.replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"),
        }[name]
    )
    result = run_nibble(tmp_path, "import", str(path))
    assert result.returncode == 1
    assert words in result.stderr.splitlines()[-1]
    assert ModelStore.in_directory(tmp_path).records() == {}


def test_json_is_for_programs(tmp_path: Path, server: FileServer) -> None:
    pulled = run_nibble(tmp_path, "pull", server.url, "--json", **_LOCAL)
    told = json.loads(pulled.stdout)
    assert (told["id"], told["architecture"], told["vocabulary"]) == ("model", "llama", 260)
    assert told["has_template"] is True
    listed = json.loads(run_nibble(tmp_path, "catalog", "--json").stdout)
    assert {entry["id"] for entry in listed} == set(catalog())
    assert all(entry["memory_bytes"] > entry["file_bytes"] for entry in listed)


def test_the_catalog_says_what_was_not_verified(tmp_path: Path) -> None:
    lines = run_nibble(tmp_path, "catalog").stdout.splitlines()
    for entry in catalog().values():
        (line,) = [line for line in lines if line.startswith(f"{entry.id} ")]
        assert ("not verified" in line) is not entry.verified
        assert entry.licence in line


def test_a_word_that_is_no_model_names_the_nearest(tmp_path: Path) -> None:
    result = run_nibble(tmp_path, "pull", "vicuna-7b")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("nibble: 'vicuna-7b' is nothing to pull: did you mean")
    assert result.stderr.count("\n") == 1, "no bar of what never began"


def test_ctrl_c_leaves_a_part_that_the_next_pull_goes_on_with(tmp_path: Path, server: FileServer) -> None:
    server.steps = [stalls_after(30_000)]
    process = subprocess.Popen(
        [NIBBLE, "pull", server.url],
        env=clean_environment(tmp_path, _LOCAL),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    part = tmp_path / "models" / ".model.gguf.part"
    eventually(lambda: part.exists() and part.stat().st_size, lambda size: size == 30_000, "a part is here")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the command again, and it goes on" in errors
    assert run_nibble(tmp_path, "pull", server.url, **_LOCAL).returncode == 0
    assert server.seen[-1]["range"] == "bytes=30000-"
