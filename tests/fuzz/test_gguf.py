"""Damaged model files: the validator that dies takes nobody along, and the server goes on with its other models."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from tests.end_to_end.live_server import LiveServer
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.fuzz.gguf_campaign import GgufCampaign, Trials
from tests.fuzz.gguf_image import GgufImage
from tests.fuzz.gguf_mutant import BASES, MutantFactory, Patch, Recipe, new_recipe
from tests.server.nibble_process import ROOT

KILLERS = Path(__file__).parents[1] / "data" / "gguf_killers.json"
"""Of each cause that ended the validator one file, as what differs from a sound one."""
SERVED = 4


@pytest.fixture(autouse=True)
def _found_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def factory() -> MutantFactory:
    return MutantFactory()


@pytest.fixture(scope="module")
def killers() -> list[Patch]:
    return msgspec.json.decode(KILLERS.read_bytes(), type=list[Patch])


def test_a_file_is_its_parts(factory: MutantFactory) -> None:
    for base in BASES:
        image = GgufImage.of(factory.sound(base))
        assert image.bytes() == factory.sound(base)
        assert len(image.tensors) > 5
        assert {"number", "length", "type", "text"} <= {atom.kind for atom in image.atoms()}


def test_a_recipe_makes_one_file_and_a_patch_the_same(factory: MutantFactory) -> None:
    choose, differing = random.Random(0), 0
    for _ in range(60):
        recipe = new_recipe(choose)
        sound, mutant = factory.sound(recipe.base), factory.make(recipe)
        assert factory.make(recipe) == mutant
        differing += mutant != sound
        assert Patch.between(recipe.base, sound, mutant, "").apply(sound) == mutant
    assert differing > 50
    assert factory.make(Recipe("llama", ())) == factory.sound("llama")


@pytest.mark.model
def test_mutants_are_refused_loaded_or_end_nobody_but_their_validator(tmp_path: Path) -> None:
    outcome = GgufCampaign(tmp_path).run(80, seed=random.randrange(1 << 30))
    assert not outcome.failures
    assert outcome.mutants == sum(outcome.counts.values()) == 80
    assert outcome.counts["refused"] > 20


@pytest.mark.model
def test_sound_files_load_and_known_killers_end_their_validator_alone(
    factory: MutantFactory, killers: list[Patch]
) -> None:
    with Trials() as trials:
        for base in BASES:
            assert trials.verdict(factory.sound(base)).kind == "loads"
        kinds = []
        for patch in killers:
            verdict = trials.verdict(patch.apply(factory.sound(patch.base)))
            assert not trials.fault(verdict), verdict
            kinds.append(verdict.kind)
        assert trials.verdict(factory.sound("llama")).kind == "loads"
    # Another llama.cpp may refuse what this one dies of. If none is fatal any more, there is nothing to prove here.
    assert "died" in kinds


@pytest.mark.model
def test_a_server_names_what_its_workers_died_of_and_serves_the_rest(
    tmp_path: Path, factory: MutantFactory, killers: list[Patch]
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_tiny(models / "sound.gguf", Tiny())
    fatal = [patch for patch in killers if "GGML_ASSERT" in patch.what][:SERVED]
    for number, patch in enumerate(fatal):
        (models / f"killer{number}.gguf").write_bytes(patch.apply(factory.sound(patch.base)))
    with LiveServer(tmp_path, extra={"NIBBLE_PRELOAD": "sound"}) as server:
        server.ready()
        for number in range(len(fatal)):
            body = {"model": f"killer{number}", "prompt": "1", "max_tokens": 1}
            answer = server.post("/v1/completions", body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (500, "model_load_failed"), fatal[number]
            assert str(tmp_path) not in error["message"]
            sound = server.post("/v1/completions", {"model": "sound", "prompt": "1", "max_tokens": 1})
            assert sound.status_code == 200
        assert list(server.workers()) == ["sound.gguf"]
