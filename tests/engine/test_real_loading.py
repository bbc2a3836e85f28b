"""Files that load and files that cannot: each failure is typed and leaves no process; tiny random models serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import InvalidRequest, ModelLoadFailed, NibbleError
from engine.prompt import TokenPrompt
from tests.engine.real import answer, answers, asking, chat, until, workers_of_this_process
from tests.fixtures.tiny_gguf import Tiny, write_tiny

# These need no bundled model, but processes and seconds all the same.
pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


def _config(path: Path, context: int | None = None, kv_budget_bytes: int | None = None) -> EngineConfig:
    return EngineConfig(
        model_id="tiny",
        model_path=str(path),
        parallel=4,
        threads=1,
        context=context,
        kv_budget_bytes=kv_budget_bytes,
    )


@asynccontextmanager
async def _running(path: Path) -> AsyncIterator[Engine]:
    engine = await Engine.start(_config(path))
    try:
        yield engine
    finally:
        await engine.stop()


def _missing(path: Path) -> None:
    path.unlink()


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _no_gguf(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html>" + bytes(500))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _truncated_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _garbage(path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, 50_000, dtype=np.uint8).tobytes()
    path.write_bytes(b"GGUF" + noise)


def _too_many_layers(path: Path) -> None:
    raw = path.read_bytes()
    at = raw.index(b"llama.block_count") + len(b"llama.block_count") + 4
    path.write_bytes(raw[:at] + (9999).to_bytes(4, "little") + raw[at + 4 :])


@pytest.mark.parametrize(
    "damage",
    [_missing, _a_directory, _empty, _no_gguf, _truncated, _truncated_header, _garbage, _too_many_layers],
    ids=lambda damage: damage.__name__.strip("_"),
)
async def test_a_file_that_cannot_be_served_is_a_typed_failure_and_leaves_no_process(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    damage(path)
    before = workers_of_this_process()
    async with asyncio.timeout(30):
        with pytest.raises(ModelLoadFailed) as caught:
            await Engine.start(_config(path))
    assert len(str(caught.value)) > 20, "it names the cause"
    assert str(tmp_path) not in str(caught.value), "and no path of this machine"
    await until(lambda: workers_of_this_process() <= before)


async def test_a_broken_template_is_a_load_failure_that_says_so(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "broken.gguf", Tiny(template="{% for m in messages %}"))
    with pytest.raises(ModelLoadFailed, match="chat template in the file does not compile"):
        await Engine.start(_config(path))


async def test_a_context_that_cannot_fit_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    with pytest.raises(NibbleError, match="KV cache"):
        await Engine.start(_config(path, context=100_000, kv_budget_bytes=1_000_000))


async def test_a_model_without_a_template_completes_and_refuses_to_chat(tmp_path: Path) -> None:
    async with _running(write_tiny(tmp_path / "tiny.gguf")) as engine:
        facts = engine.facts
        assert (facts.architecture, facts.context, facts.has_chat_template) == ("llama", 128, False)
        told = await answer(engine, asking(TokenPrompt((1, 5, 6)), max_tokens=20, ignore_eos=True))
        assert told.end.completion_tokens == 20
        with pytest.raises(InvalidRequest, match="no chat template") as caught:
            await answer(engine, asking(chat("hi"), max_tokens=2))
        assert caught.value.param == "messages"


async def test_a_template_of_its_own_and_text_that_is_never_broken(tmp_path: Path) -> None:
    """A random model over bytes says a great deal that is no UTF-8, and is told as whole characters."""
    path = write_tiny(tmp_path / "chat.gguf", Tiny(template="{{ bos_token }}{{ messages[0].content }}"))
    async with _running(path) as engine:
        told = await answers(engine, asking(chat("hi </s>"), n=4, max_tokens=60, ignore_eos=True))
        for one in told:
            one.text.encode()
            assert one.end.completion_tokens == 60


async def test_a_template_that_refuses_everything_harms_no_completion(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "bad.gguf", Tiny(template="{{ raise_exception('never') }}"))
    async with _running(path) as engine:
        with pytest.raises(InvalidRequest, match="never"):
            await answer(engine, asking(chat("hi"), max_tokens=2))
        assert (await answer(engine, asking("hi", max_tokens=2, ignore_eos=True))).end.completion_tokens == 2


async def test_a_recurrent_model_shares_nothing_and_is_right_all_the_same(tmp_path: Path) -> None:
    """Its memory cannot be cut, so each request computes its own prompt; answers do not mix."""
    path = write_tiny(tmp_path / "mamba.gguf", Tiny(architecture="mamba"))
    async with _running(path) as engine:
        head = tuple(10 + i % 90 for i in range(40))
        requests = [asking(TokenPrompt((*head, 100 + n)), max_tokens=10, ignore_eos=True) for n in range(6)]
        alone = [(await answer(engine, request)) for request in requests]
        assert all(one.end.cached_tokens == 0 for one in alone)
        together = await asyncio.gather(*(answer(engine, request) for request in requests))
        assert [one.text for one in together] == [one.text for one in alone]
