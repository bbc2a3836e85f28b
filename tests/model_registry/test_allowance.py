"""Models that load at the same time, or within a budget, take no more together than there is."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import EngineConfig
from engine.errors import InsufficientMemory
from engine.memory_plan import most_kv_bytes, most_prefix_bytes
from engine.process_memory import ProcessMemory
from model_registry.admission import Admission
from model_registry.allowance import allow
from model_registry.config import RegistryConfig
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from tests.fakes.facts import facts
from tests.model_registry.fake_engine import FakeFactory, write_gguf
from tests.model_registry.gated_house import settle

_MB = 1_000_000
_COMPUTE_BYTES = 64 << 20
_PLAIN = EngineConfig(model_id="", model_path="")


@given(left=st.integers(0, 1 << 40), least=st.integers(0, 1 << 30))
def test_an_allowance_is_within_what_is_left_and_no_less_than_was_asked_for(left: int, least: int) -> None:
    allowed = allow(left, _PLAIN, least_kv_bytes=least)
    assert allowed.bytes <= left
    assert allowed.kv_bytes >= min(least, left)


def test_what_the_operator_fixed_is_no_matter_of_an_allowance() -> None:
    config = msgspec.structs.replace(_PLAIN, kv_budget_bytes=300 * _MB, prefix_memory_bytes=0)
    allowed = allow(100 * _MB, config, least_kv_bytes=0)
    assert (allowed.kv_bytes, allowed.prefix_bytes) == (300 * _MB, 0)


class Machine:
    """As many bytes as it is said to have. Once its load ends, an engine takes all that it may, but for what it leaves
    for later; that it may take at any time, as the machine does not know. Its weights are copied, or mapped: then the
    machine tells their pages as free."""

    def __init__(
        self,
        root: Path,
        free: int,
        *,
        budget: int | None = None,
        names: tuple[str, ...],
        left_for_later: float = 0.0,
        maps: bool = False,
    ) -> None:
        models = root / "models"
        models.mkdir()
        for name in names:
            with write_gguf(models / f"{name}.gguf").open("r+b") as file:
                file.truncate(100 * _MB)  # sparse
        self.free = free
        self.left_for_later = left_for_later
        """As a share of its KV cache and its prefixes."""
        self.maps = maps
        self.factory = FakeFactory()
        config = RegistryConfig(
            data_dir=root, models_dir=models, preload=(), memory_budget_bytes=budget, engine=_PLAIN
        )
        self.registry = ModelRegistry(
            config,
            self.factory.start,
            sources=[DirectorySource(models)],
            admission=Admission(config, available=lambda: self.told),
        )

    @property
    def taken(self) -> int:
        return sum(
            100 * _MB + _COMPUTE_BYTES + engine.facts.kv_bytes + engine.facts.prefix_bytes
            for engine in self.factory.engines
            if not engine.is_stopped
        )

    @property
    def untaken(self) -> int:
        return sum(engine.facts.reserved_bytes for engine in self.factory.engines if not engine.is_stopped)

    @property
    def mapped(self) -> int:
        return sum(engine.facts.mapped_bytes for engine in self.factory.engines if not engine.is_stopped)

    @property
    def told(self) -> int:
        """What the machine tells as free."""
        return self.free - self.taken + self.untaken + self.mapped

    def finish(self, place: int) -> None:
        """End a load: what it planned is what its engine would have, seeing all that is free."""
        load = self.factory.loads[place]
        config, free = load.config, self.told - 100 * _MB
        kv, prefixes = most_kv_bytes(free), most_prefix_bytes(free)
        if config.kv_most_bytes is not None:
            kv = min(kv, config.kv_most_bytes)
        if config.prefix_most_bytes is not None:
            prefixes = min(prefixes, config.prefix_most_bytes)
        later = int(self.left_for_later * (kv + prefixes))
        held = _COMPUTE_BYTES + kv + prefixes - later
        load.facts = msgspec.structs.replace(
            facts(),
            kv_bytes=kv,
            prefix_bytes=prefixes,
            anonymous_bytes=held,
            reserved_bytes=later,
            mapped_bytes=100 * _MB if self.maps else 0,
        )
        load.memory = ProcessMemory(resident_bytes=held, anonymous_bytes=held)
        load.succeed()


@settings(deadline=None, max_examples=40)
@given(
    free_mb=st.integers(320, 6000),
    order=st.permutations(range(4)),
    budget_mb=st.none() | st.integers(320, 6000),
    left_for_later=st.sampled_from([0.0, 0.5, 1.0]),
    maps=st.booleans(),
)
def test_models_that_load_at_once_fit_together(
    free_mb: int, order: list[int], budget_mb: int | None, left_for_later: float, maps: bool
) -> None:
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(_load_at_once(Path(root), free_mb, order, budget_mb, left_for_later, maps))


async def _load_at_once(
    root: Path, free_mb: int, order: list[int], budget_mb: int | None, left_for_later: float, maps: bool
) -> None:
    names = ("one", "two", "three", "four")
    budget = None if budget_mb is None else budget_mb * _MB
    machine = Machine(
        root, free_mb * _MB, budget=budget, names=names, left_for_later=left_for_later, maps=maps
    )
    await machine.registry.start()
    loads = [asyncio.create_task(machine.registry.load(name)) for name in names]
    waiting: set[asyncio.Task[None]] = set(loads)
    for turn in range(10_000):
        # A load looks at its file in a thread before it comes to its gate.
        _, waiting = await asyncio.wait(loads, timeout=0.002)
        if gates := [at for at, load in enumerate(machine.factory.loads) if not load.gate.is_set()]:
            machine.finish(gates[order[turn % 4] % len(gates)])
            await settle()
        assert machine.taken <= machine.free
        assert budget is None or machine.taken <= budget
        if not waiting:
            break
    assert not waiting, "a load waits for ever"
    told = await asyncio.gather(*loads, return_exceptions=True)
    assert any(not isinstance(each, BaseException) for each in told), "there is room for one of them"
    assert all(each is None or isinstance(each, InsufficientMemory) for each in told), told
    await machine.registry.stop()
