"""Quantising with the real quantiser and the real worker that tries its work out."""

from __future__ import annotations

import errno
import os
import resource
import struct
import subprocess
import sys
import threading
from pathlib import Path

import gguf
import pytest

from engine.disk.file_system import FileSystem
from engine.errors import InsufficientDisk, InvalidRequest, ModelLoadFailed
from model_registry.quantize.new_file import NewFile
from model_registry.quantize.quantization_cancelled import QuantizationCancelled
from model_registry.store.model_record import ModelRecord
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.quantize.shop import Shop

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "Tiny-F32.gguf", Tiny(width=64))
    return Shop(tmp_path)


def test_a_model_is_made_tried_out_and_remembers_its_parent(shop: Shop) -> None:
    told: list[tuple[int, int | None]] = []
    plan = shop.quantizer.plan(shop.model("tiny-f32"), "q8_0")
    assert (plan.target.name, plan.is_requantized, plan.cost) == ("tiny-q8_0.gguf", False, "")
    record = shop.quantizer.quantize(
        shop.model("tiny-f32"), "q8_0", progress=lambda done, whole: told.append((done, whole))
    )
    assert told[0] == (0, told[-1][1])
    assert told[-1][0] == told[-1][1] == sum(plan.tensor_bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert abs(record.file_bytes - plan.target_bytes) < 4096
    assert (record.parent, record.quantisation, record.architecture) == ("tiny-f32", "Q8_0", "llama")
    assert shop.files() == ["Tiny-F32.gguf", "tiny-q8_0.gguf"]
    shop.look()
    assert shop.model("tiny-q8_0").file_record == record
    # The types that the file really holds, read by somebody else.
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(record.path).tensors}
    assert kinds == {"F32", "Q8_0"}


@pytest.mark.parametrize("architecture", ["bert", "mamba"])
def test_any_architecture_is_quantised(tmp_path: Path, architecture: str) -> None:
    shop = Shop(tmp_path)
    write_tiny(shop.models / "tiny.gguf", Tiny(architecture=architecture, width=64))
    shop.look()
    record = shop.quantizer.quantize(shop.model("tiny"), "q8_0")
    assert (record.architecture, record.parent) == (architecture, "tiny")


def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(shop: Shop) -> None:
    model = shop.model("tiny-f32")
    shop.quantizer.quantize(model, "q4_0", name="small.gguf")
    shop.look()
    small = shop.model("small")
    with pytest.raises(InvalidRequest, match="is no type") as caught:
        shop.quantizer.plan(model, "q4")
    assert caught.value.param == "to"
    with pytest.raises(InvalidRequest, match="'small' already") as caught:
        shop.quantizer.plan(model, "q4_0", name="Small")
    assert caught.value.param == "name"
    with pytest.raises(InvalidRequest, match="is F32 already"):
        shop.quantizer.plan(model, "f32", name="same")
    with pytest.raises(
        InvalidRequest, match=r"is Q4_0 already, and is rounded a second time.*--allow-requantize"
    ):
        shop.quantizer.plan(small, "q5_0")
    assert shop.quantizer.plan(small, "q8_0", allow_requantize=True).cost.endswith("next to nothing to it")
    for name in ("../out", "a/b", "", ".hidden", "part-00001-of-00002", "x" * 201):
        with pytest.raises(InvalidRequest, match="cannot be a model's name"):
            shop.quantizer.plan(model, "q4_0", name=name)
    assert shop.files() == ["Tiny-F32.gguf", "small.gguf"]


def test_a_split_model_becomes_one_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    _write_split(shop.models)
    shop.look()
    record = shop.quantizer.quantize(shop.model("split"), "Q4_K_M")
    assert (record.parent, Path(record.path).name) == ("split", "split-q4_k_m.gguf")
    reader = gguf.GGUFReader(record.path)
    assert "split.count" not in reader.fields
    assert len(reader.tensors) == 21


def _write_split(directory: Path) -> None:
    """A tiny model in two parts, as ``llama-gguf-split`` makes them."""
    whole = gguf.GGUFReader(write_tiny(directory / "whole.bin"))
    half = len(whole.tensors) // 2
    for number, tensors in enumerate((whole.tensors[:half], whole.tensors[half:])):
        writer = gguf.GGUFWriter(directory / f"split-0000{number + 1}-of-00002.gguf", "llama")
        if number == 0:
            for name, field in whole.fields.items():
                if name != "general.architecture" and not name.startswith("GGUF."):
                    kind = field.types[0]
                    sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
                    writer.add_key_value(name, field.contents(), kind, sub_type)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(whole.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    (directory / "whole.bin").unlink()


def _block_count(whole: bytes, count: int) -> bytes:
    key = b"llama.block_count"
    place = whole.index(key) + len(key) + 4
    return whole[:place] + struct.pack("<I", count) + whole[place + 4 :]


@pytest.mark.parametrize("name", ["none", "many", "twice", "cut", "foreign", "empty"])
def test_a_hostile_or_damaged_file_ends_a_process_and_leaves_nothing(shop: Shop, name: str) -> None:
    whole = (shop.models / "Tiny-F32.gguf").read_bytes()
    bad = {
        "none": _block_count(whole, 0),
        "many": _block_count(whole, 9999),
        "twice": whole.replace(b"<0x41>", b"<0x42>"),
        "cut": whole[:-3000],
        "foreign": whole.replace(b"llama", b"lxama"),
        "empty": b"",
    }[name]
    (shop.models / "bad.gguf").write_bytes(bad)
    shop.look()
    with pytest.raises(ModelLoadFailed, match=r"fetch it again|update nibble|download it again"):
        shop.quantizer.quantize(shop.model("bad"), "q8_0")
    assert shop.files() == ["Tiny-F32.gguf", "bad.gguf"]
    assert shop.store.record("bad-q8_0") == ModelRecord(id="bad-q8_0")
    # And the next one is quantised as if nothing had been.
    assert shop.quantizer.plan(shop.model("tiny-f32"), "q8_0").target_bytes > 0


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_cancelled_one_leaves_nothing(shop: Shop, is_at_once: bool) -> None:
    cancel = threading.Event()
    if is_at_once:
        cancel.set()
    with pytest.raises(QuantizationCancelled):
        shop.quantizer.quantize(
            shop.model("tiny-f32"), "q8_0", cancel=cancel, progress=lambda done, whole: cancel.set()
        )
    assert shop.files() == ["Tiny-F32.gguf"]
    assert shop.store.records() == {}


def test_an_exception_of_the_listener_leaves_nothing(shop: Shop) -> None:
    def break_off(done: int, whole: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.quantizer.quantize(shop.model("tiny-f32"), "q8_0", progress=break_off)
    assert shop.files() == ["Tiny-F32.gguf"]


class _FailingSystem(FileSystem):
    """Fails at one of its calls."""

    def __init__(self, call: str) -> None:
        self._call = call

    def sync(self, descriptor: int) -> None:
        self._perhaps_fail("sync")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._perhaps_fail("rename")
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._perhaps_fail("sync_directory")
        super().sync_directory(path)

    def _perhaps_fail(self, call: str) -> None:
        if call == self._call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["sync", "rename", "sync_directory"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_state(tmp_path: Path, call: str) -> None:
    shop = Shop(tmp_path, system=_FailingSystem(call))
    write_tiny(shop.models / "tiny.gguf", Tiny(width=64))
    shop.look()
    with pytest.raises(InsufficientDisk, match=r"No space left on device\): make room"):
        shop.quantizer.quantize(shop.model("tiny"), "q8_0")
    assert shop.files() == ["tiny.gguf"]
    assert shop.store.record("tiny-q8_0").file is None


def test_a_disk_that_fills_up_while_it_is_written_leaves_the_old_state(shop: Shop) -> None:
    """The kernel refuses to let a file grow past a limit, as a full disk does, from the first page to the last."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from engine.errors import InsufficientDisk\n"
        "from tests.model_registry.quantize.shop import Shop\n"
        "shop = Shop(Path(sys.argv[1]))\n"
        "plan = shop.quantizer.plan(shop.model('tiny-f32'), 'q8_0')\n"
        "for limit in (0, plan.target_bytes // 2, plan.target_bytes - 64):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        with shop.quantizer.written(plan): print('written')\n"
        "    except InsufficientDisk as error: print('refused')\n"
        "print(shop.files())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(shop.models.parent)],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == ["refused"] * 3 + ["['Tiny-F32.gguf']"], told.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


def test_too_little_disk_is_told_before_anything_is_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = shop.quantizer.plan(shop.model("tiny-f32"), "q8_0")
    usage = type("Usage", (), {"free": plan.target_bytes})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(InsufficientDisk, match=r"will take about 0 MB, and .* has 0 MB free"):
        shop.quantizer.plan(shop.model("tiny-f32"), "q8_0")


def test_two_at_once_are_not_both_let_in_and_leftovers_are_nobodys(shop: Shop) -> None:
    plan = shop.quantizer.plan(shop.model("tiny-f32"), "q8_0")
    other = NewFile(plan.target, FileSystem())
    other.begin()
    with (
        pytest.raises(InvalidRequest, match="is being made by another process"),
        shop.quantizer.written(plan),
    ):
        pass
    assert other.path.exists(), "the file of another was removed"
    other.close()
    other.path.write_bytes(b"what a power cut has left, and which is longer than the new file" * 10_000)
    held = NewFile(shop.models / "held.gguf", FileSystem())
    held.begin()
    (shop.models / ".other.gguf.new").write_bytes(b"of a process that was killed")
    shop.quantizer.plan(shop.model("tiny-f32"), "q4_0")
    assert shop.files() == [".held.gguf.new", "Tiny-F32.gguf"], "what nobody holds is swept away"
    held.close()
    other.path.write_bytes(b"the same, once more")
    with shop.quantizer.written(plan) as new:
        assert abs(new.path.stat().st_size - plan.target_bytes) < 4096
    assert shop.files() == ["Tiny-F32.gguf"]


def test_a_name_that_is_taken_meanwhile_is_left_alone(shop: Shop) -> None:
    plan = shop.quantizer.plan(shop.model("tiny-f32"), "q8_0")
    with shop.quantizer.written(plan) as new:
        write_tiny(plan.target, Tiny(width=64, seed=5))
        before = plan.target.read_bytes()
        with pytest.raises(InvalidRequest, match="already"):
            shop.quantizer.keep(plan, new)
    assert plan.target.read_bytes() == before
    assert shop.store.records() == {}
