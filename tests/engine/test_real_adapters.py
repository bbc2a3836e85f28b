"""A tiny random model with LoRA adapters in a real worker: every answer is that of its own adapters."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from engine.adapter import Adapter, AdapterUse
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import InvalidRequest, ModelLoadFailed
from engine.prompt import TokenPrompt
from engine.request import EngineRequest
from tests.engine.real import Told, answer, asking, until
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter

# These need no bundled model, but processes and seconds all the same.
pytestmark = pytest.mark.model

_HEAD = tuple(3 + i % 200 for i in range(80))
_POET, _CLERK = AdapterUse("poet"), AdapterUse("clerk")
_SETS: tuple[tuple[AdapterUse, ...], ...] = (
    (),
    (_POET,),
    (_CLERK,),
    (_POET, _CLERK),
    (AdapterUse("poet", 0.5),),
)


def _config(root: Path, **changes: object) -> EngineConfig:
    names = {"poet": 1, "clerk": 2}
    adapters = tuple(
        Adapter(name, str(write_tiny_adapter(root / f"{name}.gguf", TinyAdapter(seed=seed))))
        for name, seed in names.items()
    )
    config = EngineConfig(
        model_id="tiny",
        model_path=str(write_tiny(root / "tiny.gguf", Tiny(context=256))),
        adapters=adapters,
        parallel=4,
        threads=1,
        # A trial could find the one faster for one engine and the other for the next, and answers are compared.
        flash_attention="on",
        prefix_memory_bytes=0,
    )
    return msgspec.structs.replace(config, **changes)


@asynccontextmanager
async def _running(config: EngineConfig) -> AsyncIterator[Engine]:
    engine = await Engine.start(config)
    try:
        yield engine
    finally:
        await engine.stop()


def _asking(
    uses: tuple[AdapterUse, ...], *, tail: int = 7, tenant: str = "", tokens: int = 30
) -> EngineRequest:
    request = asking(TokenPrompt((*_HEAD, tail)), max_tokens=tokens, ignore_eos=True)
    return msgspec.structs.replace(request, adapters=uses, tenant=tenant)


async def test_each_set_answers_as_alone_whoever_runs_beside_it_and_the_model_alone_as_without_any(
    tmp_path: Path,
) -> None:
    config = _config(tmp_path)
    async with _running(msgspec.structs.replace(config, adapters=())) as engine:
        bare = await answer(engine, _asking(()))
    async with _running(config) as engine:
        alone: list[Told] = []
        for uses in _SETS:
            told = await answer(engine, _asking(uses))
            assert told.end.cached_tokens == 0, "what others computed is no prefix for it"
            alone.append(told)
        assert alone[0].text == bare.text
        assert len({told.text for told in alone}) == len(_SETS)
        together = await asyncio.gather(*(answer(engine, _asking(uses)) for uses in _SETS * 3))
        assert [told.text for told in together] == [told.text for told in alone] * 3
        assert (await answer(engine, _asking(()))).text == bare.text
        again = await answer(engine, _asking((_CLERK, _POET)))
        assert again.end.cached_tokens == len(_HEAD), "the order of names makes no other set"


@pytest.mark.parametrize(
    "uses",
    [(AdapterUse("painter"),), (_POET, _POET), (AdapterUse("poet", 1e9),)],
    ids=["unknown", "twice", "scale"],
)
async def test_a_set_that_cannot_be_is_refused_and_the_worker_lives(
    uses: tuple[AdapterUse, ...], tmp_path: Path
) -> None:
    async with _running(_config(tmp_path)) as engine:
        with pytest.raises(InvalidRequest) as caught:
            await answer(engine, _asking(uses))
        assert caught.value.param == "lora"
        assert (await answer(engine, _asking((_POET,), tokens=2))).end.completion_tokens == 2
        assert engine.restarts == 0


async def test_prefixes_on_disk_are_those_of_the_adapters_file(tmp_path: Path) -> None:
    changes = {
        "prefix_memory_bytes": 1 << 20,
        "prefix_disk_bytes": 1 << 20,
        "prefix_disk_path": str(tmp_path / "prefixes"),
    }
    config = _config(tmp_path, **changes)
    async with _running(config) as engine:
        cold = await answer(engine, _asking((_POET,)))
    async with _running(config) as engine:
        assert (await answer(engine, _asking(()))).end.cached_tokens == 0
        warm = await answer(engine, _asking((_POET,)))
        assert (warm.end.cached_tokens, warm.text) == (len(_HEAD), cold.text)
    # Another adapter under the same name.
    write_tiny_adapter(tmp_path / "poet.gguf", TinyAdapter(seed=9))
    async with _running(config) as engine:
        other = await answer(engine, _asking((_POET,)))
        assert other.end.cached_tokens == 0
        assert other.text != cold.text


async def _failure(config: EngineConfig) -> str:
    with pytest.raises(ModelLoadFailed) as caught:
        await Engine.start(config)
    assert not isinstance(caught.value, InvalidRequest)
    return str(caught.value)


async def test_what_cannot_be_loaded_is_a_failure_that_names_the_mend(tmp_path: Path) -> None:
    config = _config(tmp_path)
    poet, clerk = config.adapters
    for adapters, why in (
        ((poet, msgspec.structs.replace(clerk, name="poet")), "own name"),
        ((msgspec.structs.replace(poet, scale=float("nan")),), "scale of the adapter 'poet'"),
        ((msgspec.structs.replace(poet, path=str(tmp_path / "none.gguf")),), "none.gguf cannot be read"),
        ((msgspec.structs.replace(poet, path=config.model_path),), "no LoRA adapter"),
    ):
        message = await _failure(msgspec.structs.replace(config, adapters=adapters))
        assert why in message
        assert str(tmp_path) not in message
    write_tiny_adapter(tmp_path / "poet.gguf", TinyAdapter(weight=float("nan")))
    assert "with the adapter 'poet' the model computes no numbers" in await _failure(config)


def _remove(adapter: Adapter) -> None:
    Path(adapter.path).unlink()


def _adapter(root: Path, name: str, seed: int, **changes: object) -> Adapter:
    made = TinyAdapter(seed=seed, **changes)  # type: ignore[arg-type]
    return Adapter(name, str(write_tiny_adapter(root / f"{name}-{seed}.gguf", made)))


@pytest.mark.parametrize("layout", ["partitioned", "unified"])
async def test_adapters_come_and_go_while_others_run_and_nobody_answers_otherwise_for_it(
    layout: str, tmp_path: Path
) -> None:
    config = _config(tmp_path, parallel=3, kv_layout=layout)
    async with _running(config) as engine:
        poet, clerk = [await answer(engine, _asking((use,))) for use in (_POET, _CLERK)]
        bare = await answer(engine, _asking(()))
    async with _running(msgspec.structs.replace(config, adapters=())) as engine:
        pid = engine.worker_pid
        assert "adapters" not in engine.facts.capabilities
        # Every place is taken: the token that tries an adapter is computed in one that is lent.
        busy = [asyncio.create_task(answer(engine, _asking((), tail=t, tokens=150))) for t in range(7, 10)]
        await until(lambda: engine.stats.running == 3)
        for adapter in config.adapters:
            await engine.load_adapter(adapter)
        assert {"poet", "clerk"} == {*engine.adapters}
        assert "adapters" in engine.facts.capabilities
        told = await asyncio.gather(*busy, *(answer(engine, _asking((use,))) for use in (_POET, _CLERK) * 2))
        assert told[0].text[:20] == bare.text[:20]
        assert [each.text for each in told[3:]] == [poet.text, clerk.text] * 2
        both = await answer(engine, _asking((_POET, _CLERK)))
        assert both.text not in {bare.text, poet.text, clerk.text}
        zero = await answer(engine, _asking((AdapterUse("poet", 0.0), AdapterUse("clerk", 0.0))))
        assert zero.text == bare.text
        # One that runs is finished as it began, though its adapter is dropped meanwhile.
        running = asyncio.create_task(answer(engine, _asking((_POET,), tail=11, tokens=150)))
        await until(lambda: engine.stats.running == 1)
        await engine.drop_adapter("poet")
        with pytest.raises(InvalidRequest, match="no adapter 'poet'; it has: clerk"):
            await answer(engine, _asking((_POET,)))
        whole = await running
        await engine.load_adapter(config.adapters[0])
        again = await answer(engine, _asking((_POET,), tail=11))
        # In a pool, what others hold moves sums by their last bits, and after some hundred tokens a choice by it.
        assert whole.text[:20] == again.text[:20]
        assert (await answer(engine, _asking((_POET,)))).text == poet.text
        await engine.drop_adapter("poet")
        await engine.drop_adapter("clerk")
        await engine.drop_adapter("nobody")
        assert (await answer(engine, _asking(()))).text == bare.text
        assert "adapters" not in engine.facts.capabilities
        assert (engine.worker_pid, engine.restarts) == (pid, 0)


async def test_another_file_under_the_name_answers_from_then_on(tmp_path: Path) -> None:
    async with _running(_config(tmp_path, adapters=())) as engine:
        told = []
        for seed in (1, 2, 1):
            await engine.load_adapter(_adapter(tmp_path, "poet", seed))
            told.append((await answer(engine, _asking((_POET,)))).text)
        assert told[0] == told[2] != told[1]


async def test_a_file_that_cannot_be_used_is_a_failure_of_its_own(tmp_path: Path) -> None:
    async with _running(_config(tmp_path)) as engine:
        before = await answer(engine, _asking((_POET,)))
        other = TinyAdapter(base=Tiny(width=64))
        for adapter, why in (
            (Adapter("poet", str(tmp_path / "none.gguf")), "none.gguf cannot be read"),
            (Adapter("poet", engine.config.model_path), "no LoRA adapter"),
            (Adapter("poet", str(write_tiny_adapter(tmp_path / "o.gguf", other))), "made for another model"),
            (_adapter(tmp_path, "poet", 3, weight=float("nan")), "computes no numbers"),
            (Adapter("poet", engine.config.adapters[0].path, scale=float("inf")), "scale of the adapter"),
        ):
            with pytest.raises(ModelLoadFailed, match=why) as caught:
                await engine.load_adapter(adapter)
            assert str(tmp_path) not in str(caught.value)
        assert (await answer(engine, _asking((_POET,)))).text == before.text, "what was there stays"
        assert engine.restarts == 0


async def test_a_new_worker_knows_what_came_later_and_lives_without_what_is_gone(tmp_path: Path) -> None:
    clerk, painter = _adapter(tmp_path, "clerk", 2), _adapter(tmp_path, "painter", 3)
    async with _running(_config(tmp_path, adapters=())) as engine:
        for adapter in (clerk, painter):
            await engine.load_adapter(adapter)
        before = await answer(engine, _asking((_CLERK,)))
        assert engine.worker_pid is not None
        _remove(painter)
        os.kill(engine.worker_pid, signal.SIGKILL)
        await until(lambda: engine.restarts == 1, limit_s=30.0)
        assert (await answer(engine, _asking((_CLERK,)))).text == before.text
        await until(lambda: "painter" not in engine.adapters)
        assert "adapters" in engine.facts.capabilities


async def test_a_model_that_makes_vectors_takes_no_adapter(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "bert.gguf", Tiny(architecture="bert"))
    async with _running(EngineConfig(model_id="bert", model_path=str(model), threads=1)) as engine:
        with pytest.raises(ModelLoadFailed, match="makes vectors"):
            await engine.load_adapter(_adapter(tmp_path, "poet", 1))
        assert engine.restarts == 0
