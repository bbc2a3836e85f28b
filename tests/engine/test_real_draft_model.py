"""The draft model in llama.cpp: the bundled model guesses for itself, and files that cannot guess are refused.

There is no smaller model of the same vocabulary here. The bundled one, taken for its own draft model, costs as much
as it spares, and so is not asked; where a test's clock says that it takes no time, it is asked all the time.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.core import EngineCore
from engine.detokenizer import Detokenizer
from engine.draft_model import DraftModel
from engine.drafter import Drafter
from engine.engine import Engine
from engine.errors import ModelLoadFailed
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sequence import Sequence
from engine.step_budget import StepBudget
from engine.stop_matcher import StopMatcher
from tests.engine.real import GREEDY, STORY, answer, asking, model_path, real_config
from tests.fixtures.tiny_gguf import Tiny, write_tiny

pytestmark = pytest.mark.model

_TEXTS = (STORY, "The three most important rules of cooking are", "In the year 1905, a young clerk in Bern")


def _answers(
    model: NativeModel, sampling: SamplingParams, *, drafts: bool, pool_tokens: int | None = None
) -> list[Sequence]:
    def context() -> NativeContext:
        return NativeContext(
            model, slots=4, slot_tokens=256, pool_tokens=pool_tokens, batch_tokens=256, threads=1
        )

    backend, draft_backend = context(), context()
    instant = itertools.count(0.0, 1e-7).__next__
    draft = DraftModel(draft_backend, StepBudget(target_s=1.0), clock=instant, most_tokens=256)
    vocabulary = model.vocabulary
    core = EngineCore(
        backend,
        end_tokens=vocabulary.end_tokens,
        # One step takes as long as any other, so that what is drafted does not hang on the machine's noise.
        clock=itertools.count(0.0, 1e-3).__next__,
        draft_model=draft if drafts else None,
    )
    scratch = Scratch(vocabulary.size)
    sequences = []
    for number, text in enumerate(_TEXTS):
        prompt = vocabulary.tokenize(text, add_special=True, parse_special=False)
        sequences.append(
            Sequence(
                request=number + 1,
                choice=0,
                prompt=prompt,
                max_tokens=40,
                sampler=Sampler(
                    sampling, prompt=prompt, choice=0, end_tokens=vocabulary.end_tokens, scratch=scratch
                ),
                detokenizer=Detokenizer(vocabulary.piece),
                stop=StopMatcher(()),
                drafter=Drafter() if drafts else None,
            )
        )
    # One after another, and then all at once: guesses are computed alone and in company.
    core.add(sequences[:1])
    while core.has_work:
        core.step()
    for sequence in sequences[1:]:
        core.add([sequence])
    while core.has_work:
        core.step()
    backend.close()
    draft_backend.close()
    return sequences


def _same_share(one: list[Sequence], other: list[Sequence]) -> float:
    """Share of tokens before the first that differs."""
    same = total = 0
    for a, b in zip(one, other, strict=True):
        length = min(a.length, b.length)
        differs = np.flatnonzero(a.tokens[:length] != b.tokens[:length])
        same += (int(differs[0]) if differs.size else length) - a.prompt_length
        total += a.generated
    return same / total


@pytest.mark.parametrize("pool_tokens", [None, 768])
def test_a_model_that_guesses_for_itself_is_nearly_always_right(
    model: NativeModel, pool_tokens: int | None
) -> None:
    plain = _answers(model, GREEDY, drafts=False, pool_tokens=pool_tokens)
    drafted = _answers(model, GREEDY, drafts=True, pool_tokens=pool_tokens)
    assert sum(s.drafted for s in drafted) > 60
    assert sum(s.accepted for s in drafted) > 0.8 * sum(s.drafted for s in drafted)
    assert _same_share(plain, drafted) == 1.0


def test_a_seed_draws_the_same_with_guesses_and_without(model: NativeModel) -> None:
    sampling = SamplingParams(temperature=0.8, seed=5)
    plain = _answers(model, sampling, drafts=False)
    drafted = _answers(model, sampling, drafts=True)
    assert 0 < sum(s.accepted for s in drafted) < sum(s.drafted for s in drafted)
    assert _same_share(plain, drafted) == 1.0


async def test_a_draft_model_is_loaded_beside_and_counted_in_the_memory_plan() -> None:
    plain = await Engine.start(real_config())
    try:
        expected = await answer(plain, asking(max_tokens=12))
    finally:
        await plain.stop()
    engine = await Engine.start(real_config(draft_model_path=str(model_path())))
    try:
        assert engine.facts.draft_model == engine.facts.description
        assert engine.facts.kv_bytes == 2 * plain.facts.kv_bytes
        told = await answer(engine, asking(max_tokens=12))
    finally:
        await engine.stop()
    assert told.text == expected.text


def _tiny(path: Path, draft: Path, *, speculation: bool = True) -> EngineConfig:
    return EngineConfig(
        model_id="tiny",
        model_path=str(path),
        parallel=2,
        threads=1,
        flash_attention="on",
        draft_model_path=str(draft),
        speculation=speculation,
    )


async def test_a_tiny_model_guesses_for_another_of_its_vocabulary(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", Tiny(layers=4, width=64))
    draft = write_tiny(tmp_path / "draft.gguf", Tiny(layers=1, seed=1, context=64))
    engine = await Engine.start(_tiny(path, draft))
    try:
        told = await answer(engine, asking("hi hi", max_tokens=100, ignore_eos=True))
    finally:
        await engine.stop()
    assert told.end.completion_tokens == 100, "longer than the draft model was made for"


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("other", "its vocabulary is not that of tiny.*smaller model of the same"), ("mamba", "cannot be cut")],
)
async def test_a_model_that_cannot_guess_is_refused(tmp_path: Path, architecture: str, reason: str) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    draft = model_path()
    if architecture != "other":
        draft = write_tiny(tmp_path / "draft.gguf", Tiny(architecture=architecture))
    with pytest.raises(ModelLoadFailed, match=reason) as caught:
        await Engine.start(_tiny(path, draft))
    assert "the draft model cannot be used" in caught.value.message
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("damage", ["gone", "text"])
async def test_a_file_that_is_none_is_refused(tmp_path: Path, damage: str) -> None:
    draft = tmp_path / "draft.gguf"
    if damage == "text":
        draft.write_text("no model at all")
    with pytest.raises(ModelLoadFailed, match=r"draft model cannot be used: draft\.gguf"):
        await Engine.start(_tiny(write_tiny(tmp_path / "tiny.gguf"), draft))


async def test_what_cannot_take_a_guess_back_is_served_without_a_draft_model(tmp_path: Path) -> None:
    mamba = write_tiny(tmp_path / "mamba.gguf", Tiny(architecture="mamba"))
    with pytest.raises(ModelLoadFailed, match="serve it without `draft_model`"):
        await Engine.start(_tiny(mamba, write_tiny(tmp_path / "draft.gguf")))
    with pytest.raises(ModelLoadFailed, match="no use without speculation"):
        await Engine.start(_tiny(mamba, mamba, speculation=False))


def test_every_token_is_compared(tmp_path: Path, model: NativeModel) -> None:
    """One text, one kind or one special token more or less is another vocabulary."""
    base = NativeModel(str(write_tiny(tmp_path / "base.gguf")), 0)
    assert base.vocabulary.difference(base.vocabulary) is None
    changed = tmp_path / "changed.gguf"
    changed.write_bytes((tmp_path / "base.gguf").read_bytes().replace("▁hi".encode(), "▁ho".encode()))
    difference = base.vocabulary.difference(NativeModel(str(changed), 0).vocabulary)
    assert difference is not None
    assert "'▁hi' in one and '▁ho' in the other" in difference
    assert "types 1 and 2" in str(base.vocabulary.difference(model.vocabulary))
