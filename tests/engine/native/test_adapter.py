"""LoRA adapters of a tiny random model: what they change, what they leave alone, and which files are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.adapter import Adapter
from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.backend import Logits, Tokens
from engine.errors import ModelLoadFailed
from engine.native.adapter import NativeAdapter
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter

pytestmark = pytest.mark.model

_PROMPT = np.arange(3, 43, dtype=np.int32)
_ONE, _TWO = AdapterSet(((0, 1.0),)), AdapterSet(((1, 1.0),))
_SETS = (
    NO_ADAPTERS,
    _ONE,
    _TWO,
    AdapterSet(((0, 0.5),)),
    AdapterSet(((0, 1.0), (1, 1.0))),
    AdapterSet(((0, -1.0),)),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeModel]:
    model = NativeModel(str(write_tiny(tmp_path_factory.mktemp("model") / "tiny.gguf")), 0)
    yield model
    model.close()


@pytest.fixture(scope="module")
def context(model: NativeModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeContext]:
    root = tmp_path_factory.mktemp("adapters")
    files = [write_tiny_adapter(root / f"{seed}.gguf", TinyAdapter(seed=seed)) for seed in (1, 2)]
    adapters = [NativeAdapter(model, Adapter(file.stem, str(file))) for file in files]
    context = NativeContext(model, slots=8, slot_tokens=128, batch_tokens=128, threads=1, adapters=adapters)
    yield context
    context.close()


def _compute(context: NativeContext, slot: int, position: int, tokens: Tokens) -> Logits:
    count = len(tokens)
    context.batch.token[:count] = tokens
    context.batch.position[:count] = np.arange(position, position + count)
    context.batch.slot[:count] = slot
    context.batch.wants_logits[:count] = 0
    context.batch.wants_logits[count - 1] = 1
    return context.decode(count, 1).copy()


def _alone(context: NativeContext, adapters: AdapterSet) -> list[Logits]:
    """Logits behind a prompt and behind five more tokens, with ``adapters`` set all the while."""
    context.set_adapters(adapters)
    context.clear_slot(0)
    logits = [_compute(context, 0, 0, _PROMPT)]
    logits += [_compute(context, 0, len(_PROMPT) + i, _PROMPT[i : i + 1]) for i in range(5)]
    context.clear_slot(0)
    return logits


def test_every_set_computes_something_else_and_the_model_alone_computes_bit_for_bit_what_it_did(
    context: NativeContext,
) -> None:
    before = _alone(context, NO_ADAPTERS)
    by_set = [_alone(context, adapters) for adapters in _SETS]
    after = _alone(context, NO_ADAPTERS)
    assert np.array_equal(before, after)
    assert np.array_equal(before, by_set[0])
    for i, one in enumerate(by_set):
        assert np.isfinite(one).all()
        for other in by_set[:i]:
            assert float(np.abs(one[0] - other[0]).max()) > 0.01


def test_sets_that_take_turns_compute_bit_for_bit_what_each_does_alone(context: NativeContext) -> None:
    """Slots of parked sets keep what they hold."""
    expected = [_alone(context, adapters) for adapters in _SETS]
    computed: list[list[Logits]] = [[] for _ in _SETS]
    for at in range(6):
        for slot, adapters in enumerate(_SETS):
            context.set_adapters(adapters)
            start = 0 if at == 0 else len(_PROMPT) + at - 1
            tokens = _PROMPT if at == 0 else _PROMPT[at - 1 : at]
            computed[slot].append(_compute(context, slot, start, tokens))
    assert np.array_equal(computed, expected)
    for slot in range(len(_SETS)):
        context.clear_slot(slot)
    context.set_adapters(NO_ADAPTERS)


def _no_gguf(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html>" + bytes(500))


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _a_model(path: Path) -> None:
    write_tiny(path)


def _another_width(path: Path) -> None:
    write_tiny_adapter(path, TinyAdapter(base=Tiny(width=64)))


def _more_layers(path: Path) -> None:
    write_tiny_adapter(path, TinyAdapter(base=Tiny(layers=3)))


def _another_architecture(path: Path) -> None:
    write_tiny_adapter(path, TinyAdapter(base=Tiny(architecture="gpt2")))


def _no_adapter(path: Path) -> None:
    write_tiny_adapter(path, TinyAdapter(kind="imatrix"))


def _another_method(path: Path) -> None:
    write_tiny_adapter(path, TinyAdapter(method="prefix"))


def _activated(path: Path) -> None:
    write_tiny_adapter(path, TinyAdapter(activation=(5, 6)))


def _cut_off(path: Path) -> None:
    write_tiny_adapter(path)
    path.write_bytes(path.read_bytes()[:-2000])


def _cut_off_header(path: Path) -> None:
    write_tiny_adapter(path)
    path.write_bytes(path.read_bytes()[:100])


REFUSED = (
    _no_gguf,
    _missing,
    _a_model,
    _another_width,
    _more_layers,
    _another_architecture,
    _no_adapter,
    _another_method,
    _activated,
    _cut_off,
    _cut_off_header,
)


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__.strip("_"))
def test_a_file_that_is_no_adapter_for_the_model_is_refused_and_the_model_lives(
    write: Callable[[Path], None], model: NativeModel, context: NativeContext, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.gguf"
    write(path)
    with pytest.raises(ModelLoadFailed, match=r"wrong\.gguf") as caught:
        NativeAdapter(model, Adapter("wrong", str(path)))
    assert str(tmp_path) not in str(caught.value), "no path of this machine"
    context.set_adapters(_ONE)
    assert np.isfinite(_compute(context, 0, 0, _PROMPT)).all()
    context.clear_slot(0)


def test_adapters_that_come_behind_the_context_count_and_give_their_memory_back(tmp_path: Path) -> None:
    """llama.h wants all adapters loaded before a context is made; that they need not be is what hot loading is on."""
    shape = Tiny(width=512, layers=6)
    model = NativeModel(str(write_tiny(tmp_path / "model.gguf", shape)), 0)
    files = [
        write_tiny_adapter(tmp_path / f"{seed}.gguf", TinyAdapter(base=shape, seed=seed, rank=64))
        for seed in (1, 2)
    ]
    early = [NativeAdapter(model, Adapter("early", str(files[0])))]
    before = NativeContext(model, slots=1, slot_tokens=128, batch_tokens=128, threads=1, adapters=early)
    before.set_adapters(_ONE)
    expected = _compute(before, 0, 0, _PROMPT).copy()
    before.close()
    early[0].close()
    context = NativeContext(model, slots=1, slot_tokens=128, batch_tokens=128, threads=1)
    bare = _compute(context, 0, 0, _PROMPT).copy()
    context.clear_slot(0)
    process = psutil.Process()
    small = process.memory_info().rss
    count = 24
    for place in range(count):
        context.load_adapter(place, Adapter(str(place), str(files[0])))
    grown = process.memory_info().rss - small
    assert grown > count * files[0].stat().st_size * 0.5, "some comes from what was freed before"
    # More nodes than the graph had room for when the context was made.
    context.set_adapters(AdapterSet(tuple((place, 1 / count) for place in range(count))))
    np.testing.assert_allclose(_compute(context, 0, 0, _PROMPT), expected, atol=0.05, rtol=0.05)
    context.clear_slot(0)
    context.set_adapters(NO_ADAPTERS)
    for place in range(1, count):
        context.free_adapter(place)
    assert process.memory_info().rss - small < grown / 2
    np.testing.assert_array_equal(_compute(context, 0, 0, _PROMPT), bare)
    context.clear_slot(0)
    # In the memory of those that are gone, with the same scale.
    context.load_adapter(count, Adapter("late", str(files[1])))
    context.set_adapters(_ONE)
    np.testing.assert_array_equal(_compute(context, 0, 0, _PROMPT), expected)
    context.close()
    model.close()
