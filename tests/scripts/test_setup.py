"""Set-up does what is missing, all of it, and no more: above all it does not compile llama.cpp again."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import llama_wheel
import pytest
import setup

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "requirements"
    shutil.copytree(ROOT / "requirements", copy)
    monkeypatch.setattr(setup, "LOCKS", copy)
    monkeypatch.setattr(llama_wheel, "LOCK", copy / "llama.txt")
    return copy


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], setup.Record]:
    monkeypatch.setattr(setup, "VENV", tmp_path)
    monkeypatch.setattr(setup, "RECORD", tmp_path / "record.json")
    return setup.Record


def fingerprints() -> dict[str, str]:
    return {step.name: step.fingerprint for step in setup._installs(dev=True)}


@pytest.mark.parametrize(
    ("lock", "redone"),
    [
        ("build", {"build tools"}),
        ("runtime", {"dependencies"}),
        ("llama", {"llama.cpp"}),
        ("model", {"bundled model"}),
        ("dev", {"development tools"}),
    ],
)
def test_a_changed_lock_redoes_its_own_step_alone(locks: Path, lock: str, redone: set[str]) -> None:
    before = fingerprints()
    with (locks / f"{lock}.txt").open("a") as file:
        file.write("# changed\n")

    after = fingerprints()

    assert {name for name in before if before[name] != after[name]} == redone


def test_the_rooms_are_compiled_anew_when_one_of_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in setup.ROOMS:
        assert (ROOT / room / "__init__.py").is_file()
        (tmp_path / room).mkdir()
    changed = tmp_path / setup.ROOMS[-1] / "thing.py"
    changed.write_text("one = 1\n")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    for name in ("pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    before = fingerprints()["bytecode"]
    setup._compile_sources(False)
    assert list(changed.parent.rglob("thing.*.pyc"))
    changed.write_text("one = 2\n")
    assert fingerprints()["bytecode"] != before


def test_llama_cpp_is_built_anew_for_another_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    before = llama_wheel.fingerprint()
    monkeypatch.setattr(llama_wheel, "_cpu", lambda: "another")

    assert llama_wheel.fingerprint() != before


def test_llama_cpp_is_built_anew_for_other_flags_which_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    before = llama_wheel.fingerprint()
    monkeypatch.setenv("CMAKE_ARGS", '-DGGML_NATIVE=OFF "-DCMAKE_C_FLAGS=-O2 -g"')

    assert llama_wheel.fingerprint() != before
    assert llama_wheel.cmake_args()[-2:] == ["-DGGML_NATIVE=OFF", "-DCMAKE_C_FLAGS=-O2 -g"]


def test_a_step_is_done_once_per_fingerprint(record: Callable[[], setup.Record]) -> None:
    step = setup.Step("dependencies", "1", lambda _: None)
    record().begin(step)
    record().finish(step)

    assert record().is_done(step)
    assert not record().is_done(setup.Step("dependencies", "2", lambda _: None))


def test_a_step_that_was_cut_short_is_known_as_such(record: Callable[[], setup.Record]) -> None:
    step = setup.Step("dependencies", "1", lambda _: None)
    record().begin(step)

    assert not record().is_done(step)
    assert record().was_begun(step)


def test_a_damaged_record_means_that_nothing_is_done(record: Callable[[], setup.Record]) -> None:
    setup.RECORD.write_text('{"dependencies": ')

    assert not record().is_done(setup.Step("dependencies", "1", lambda _: None))


def test_a_missing_compiler_is_one_line_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(
        llama_wheel.BuildError, match=r"CXX=no-such-compiler does not work.+install"
    ) as raised:
        llama_wheel.check_compilers()

    assert "\n" not in str(raised.value)


def test_the_registry_expects_the_model_that_set_up_verifies() -> None:
    registry = (ROOT / "model_registry" / "sources" / "bundled.py").read_text()

    assert setup.MODEL_SHA256 in registry
    assert setup.MODEL_FILE in registry
