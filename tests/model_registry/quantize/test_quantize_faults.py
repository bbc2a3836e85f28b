"""A quantisation that dies, or whose disk fails, at each sync, rename, link and removal of its end: old or new."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.disk.file_system import FileSystem
from engine.errors import InsufficientDisk
from model_registry.blobs import FOLDER, Blobs
from model_registry.quantize.new_file import NewFile, sweep
from model_registry.quantize.quantization_plan import QuantizationPlan
from model_registry.removal import plan_removal
from model_registry.store.model_record import FileRecord
from model_registry.store.store_error import StoreError
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.fake_engine import FakeFactory
from tests.model_registry.faults import MOST_STEPS, Faults, every_step, fail
from tests.model_registry.quantize.shop import Shop

CONTENT = b"GGUF" + bytes(range(256)) * 256
DIGEST = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""The children touch their own files alone."""


def make(target: Path) -> Path:
    """What the quantiser's process does, and what becomes of it."""
    new = NewFile(target, FileSystem())
    try:
        new.begin()
        with new.path.open("wb") as file:
            file.write(CONTENT)
        return new.finish(DIGEST)
    finally:
        new.close()


def test_a_new_file_that_dies_anywhere_is_old_or_new_and_is_made_again(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    blobs = Blobs(tmp_path)

    def check() -> None:
        assert all(path.read_bytes() == CONTENT for path in blobs.strays())
        if target.exists():
            assert target.read_bytes() == CONTENT
            blobs.remove(target)
        sweep(tmp_path)
        assert make(target).read_bytes() == CONTENT
        assert {path.name for path in tmp_path.iterdir()} == {"model.gguf", FOLDER}
        assert blobs.strays() == []
        blobs.remove(target)
        assert list((tmp_path / FOLDER).glob("sha256-*")) == []

    every_step(lambda: make(target), check)


def test_a_new_file_whose_disk_fails_anywhere_is_told_or_there(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    blobs = Blobs(tmp_path)
    for step in range(1, MOST_STEPS):
        faults = Faults(step, fail)
        try:
            with faults.injected():
                make(target)
        except (InsufficientDisk, OSError):
            assert not target.exists(), "whoever hears that it failed does not find it"
        else:
            assert target.read_bytes() == CONTENT
        sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} <= {"model.gguf", FOLDER}
        assert blobs.strays() == []
        blobs.remove(target)
        if faults.steps < step:
            return
    raise AssertionError("it has more steps than are tried")


@dataclass
class House:
    """A shop whose quantiser has written its file, and is to keep it; an engine that does nothing tries it out."""

    shop: Shop
    plan: QuantizationPlan
    content: bytes

    def keep(self) -> FileRecord:
        self.shop.look(FakeFactory(auto=True).start)
        new = NewFile(self.plan.target, FileSystem())
        try:
            new.begin()
            with new.path.open("wb") as file:
                file.write(self.content)
            return self.shop.quantizer.keep(self.plan, new)
        finally:
            new.close()

    def is_made(self) -> bool:
        """Whether the new model is there, whole and with its parent; else nothing of it is seen."""
        self.shop.look()
        if not self.shop.shelf.knows("tiny-q8_0"):
            assert not self.plan.target.exists()
            return False
        made = self.shop.model("tiny-q8_0")
        assert made.found.path.read_bytes() == self.content
        assert made.file_record is not None
        assert (made.file_record.parent, made.file_record.sha256) == (
            "tiny",
            hashlib.sha256(self.content).hexdigest(),
        )
        return True

    def clear(self) -> None:
        """The state before, by the means that a person has."""
        made = self.shop.model("tiny-q8_0")
        plan_removal(made, self.shop.shelf, self.shop.config).carry_out(self.shop.store)
        assert self.shop.files() == ["tiny.gguf"]


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(width=64))
    shop = Shop(tmp_path)
    plan = shop.quantizer.plan(shop.model("tiny"), "q8_0")
    with shop.quantizer.written(plan) as new:
        content = new.path.read_bytes()
    return House(shop, plan, content)


def test_a_quantisation_that_dies_at_its_end_is_old_or_new_and_is_done_again(house: House) -> None:
    def check() -> None:
        if house.is_made():
            house.clear()
        sweep(house.shop.models)
        house.keep()
        assert house.is_made()
        assert house.shop.files() == ["tiny-q8_0.gguf", "tiny.gguf"]
        house.clear()

    every_step(house.keep, check)


def test_a_quantisation_whose_disk_fails_at_its_end_is_told_or_done(house: House) -> None:
    for step in range(1, MOST_STEPS):
        faults = Faults(step, fail)
        try:
            with faults.injected():
                house.keep()
        except (InsufficientDisk, StoreError, OSError):
            assert not house.is_made()
            assert house.shop.store.record("tiny-q8_0").file is None
        else:
            assert house.is_made()
            house.clear()
        assert house.shop.files() == ["tiny.gguf"]
        if faults.steps < step:
            return
    raise AssertionError("it has more steps than are tried")
