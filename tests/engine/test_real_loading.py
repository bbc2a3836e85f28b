"""Files that load and files that cannot: each failure is typed and leaves no process; tiny random models serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import InvalidRequest, ModelLoadFailed, NibbleError
from engine.prompt import TokenPrompt
from tests.engine.real import answer, answers, asking, chat, until, workers_of_this_process
from tests.fakes.steps import steps
from tests.fixtures.tiny_gguf import Tiny, write_tiny

# These need no bundled model, but processes and seconds all the same.
pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


def _config(
    path: Path,
    context: int | None = None,
    kv_budget_bytes: int | None = None,
    chat_template: str | None = None,
) -> EngineConfig:
    return EngineConfig(
        model_id="tiny",
        model_path=str(path),
        parallel=4,
        threads=1,
        flash_attention="on",
        context=context,
        kv_budget_bytes=kv_budget_bytes,
        chat_template=chat_template,
    )


@asynccontextmanager
async def _running(path: Path, chat_template: str | None = None) -> AsyncIterator[Engine]:
    engine = await Engine.start(_config(path, chat_template=chat_template))
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


def _no_layers(path: Path) -> None:
    raw = path.read_bytes()
    at = raw.index(b"llama.block_count") + len(b"llama.block_count") + 4
    path.write_bytes(raw[:at] + bytes(4) + raw[at + 4 :])


def _a_token_twice(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"<0x41>", b"<0x42>", 1))


@pytest.mark.parametrize(
    "damage",
    [
        *(_missing, _a_directory, _empty, _no_gguf, _truncated, _truncated_header, _garbage),
        *(_too_many_layers, _no_layers, _a_token_twice),
    ],
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


_ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "fault"), [("{% for m in messages %}", "does not compile"), (_ENDLESS, "more than 0.7 s")]
)
async def test_a_template_that_cannot_be_used_leaves_completions(
    tmp_path: Path, template: str, fault: str
) -> None:
    async with _running(write_tiny(tmp_path / "broken.gguf", Tiny(template=template))) as engine:
        assert not engine.facts.has_chat_template
        assert fault in engine.facts.chat_template_fault
        told = await answer(engine, asking(TokenPrompt((1, 5, 6)), max_tokens=3, ignore_eos=True))
        assert told.end.completion_tokens == 3
        with pytest.raises(InvalidRequest, match=f"{fault}.*the setting chat_template names one"):
            await answer(engine, asking(chat("hi"), max_tokens=2))


async def test_a_template_may_be_named_instead_of_the_files_own(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", Tiny(template=_ENDLESS, context=1024))
    async with _running(path, chat_template="vicuna") as engine:
        assert "USER: " in engine.facts.chat_template
        assert (await answer(engine, asking(chat("hi"), max_tokens=2))).end.completion_tokens
    with pytest.raises(ModelLoadFailed, match="setting chat_template"):
        await Engine.start(_config(path, chat_template=str(tmp_path / "gone.jinja")))


async def test_what_runs_away_for_one_chat_holds_up_no_stream(tmp_path: Path) -> None:
    bomb = "{{ messages[0].content }}{% if messages[0].content == 'bomb' %}" + _ENDLESS + "{% endif %}"
    path = write_tiny(tmp_path / "bomb.gguf", Tiny(template=bomb, context=4096))
    async with _running(path) as engine:
        stream = steps(engine, asking(chat("hi"), max_tokens=4000, ignore_eos=True))
        async with aclosing(stream):
            await anext(stream)
            await anext(stream)
            refused = asyncio.create_task(answer(engine, asking(chat("bomb"), max_tokens=2)))
            count = 0
            while not refused.done():
                assert await anext(stream)
                count += 1
            with pytest.raises(InvalidRequest, match="takes more than"):
                refused.result()
            # 0.7 s are hundreds of steps of a tiny model.
            assert count > 20
            assert (await answer(engine, asking(chat("hi"), max_tokens=2))).end.completion_tokens


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
