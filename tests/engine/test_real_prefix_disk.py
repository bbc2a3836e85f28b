"""The bundled model after a restart: prefixes from disk give the same text as a cold start, damaged ones too."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine import attention_choice
from engine.config import EngineConfig, KvLayoutChoice
from engine.engine import Engine
from engine.errors import ModelLoadFailed
from engine.loader import load_generator
from engine.native import library
from engine.prompt import TokenPrompt
from tests.engine.real import LONG_TEXT, Told, answer, asking, is_gone, real_config
from tests.fakes.steps import steps
from tests.fixtures.tiny_gguf import Tiny, write_tiny

pytestmark = pytest.mark.model

_HEAD = LONG_TEXT[:600]
_ENDS = ("\nThe first goose says", "\nOne hill is higher than")


def _config(root: Path, **changes: object) -> EngineConfig:
    given: dict[str, object] = {
        "prefix_memory_bytes": 64 << 20,
        "prefix_disk_bytes": 256 << 20,
        "prefix_disk_path": str(root / "prefixes"),
    }
    return real_config(**given | changes)


def _files(root: Path) -> list[Path]:
    return sorted((root / "prefixes").glob("*/*"))


async def _told(config: EngineConfig, *texts: str) -> list[Told]:
    """The answers of an engine that is started and stopped for them."""
    engine = await Engine.start(config)
    try:
        return [await answer(engine, asking(text, max_tokens=16, ignore_eos=True)) for text in texts]
    finally:
        await engine.stop()


@pytest.mark.parametrize("layout", ["partitioned", "unified"])
async def test_a_prefix_from_disk_gives_the_same_text_after_a_restart(
    tmp_path: Path, layout: KvLayoutChoice
) -> None:
    (cold,) = await _told(_config(tmp_path, kv_layout=layout), _HEAD)
    (file,) = _files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    engine = await Engine.start(_config(tmp_path, kv_layout=layout))
    try:
        warm = await answer(engine, asking(_HEAD, max_tokens=16, ignore_eos=True))
        other = await answer(engine, asking(_HEAD + _ENDS[0], max_tokens=16, ignore_eos=True))
        stats = engine.stats
    finally:
        await engine.stop()
    assert cold.end.cached_tokens == 0
    assert warm.end.cached_tokens == warm.end.prompt_tokens - 1
    assert other.end.cached_tokens >= warm.end.prompt_tokens - 1
    assert warm.text == cold.text
    assert (stats.disk_prefixes_read_total, stats.disk_read_bytes_total > 0) == (1, True)


async def test_a_close_trial_of_attention_leaves_the_prefixes_on_disk_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It has no chat template, for which a process would run.
    path = str(write_tiny(tmp_path / "tiny.gguf", Tiny()))
    await _told(_config(tmp_path, model_path=path, flash_attention="off"), _HEAD[:200])
    monkeypatch.setattr(attention_choice, "_compare", lambda *_: (0.010, 0.011))
    monkeypatch.setattr(library, "has_gpu", lambda: False)
    for root, expected in ((tmp_path, "off"), (tmp_path / "new", "auto")):
        loaded = load_generator(_config(root, model_path=path, flash_attention="auto"))
        assert loaded.facts.flash_attention == expected


async def test_what_shares_a_head_with_a_prefix_on_disk_gives_the_same_text(tmp_path: Path) -> None:
    """As the same request after the same head in place, that is: both compute just what is new."""
    expected = (await _told(real_config(), _HEAD, _HEAD + _ENDS[1]))[1]
    await _told(_config(tmp_path), _HEAD)
    (told,) = await _told(_config(tmp_path), _HEAD + _ENDS[1])
    assert told.end.cached_tokens == expected.end.cached_tokens > 100
    assert told.text == expected.text


@pytest.mark.parametrize("at", [700, -100_000])
async def test_a_damaged_file_is_removed_and_its_prefix_computed(tmp_path: Path, at: int) -> None:
    (cold,) = await _told(_config(tmp_path), _HEAD)
    (file,) = _files(tmp_path)
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    damaged = file.stat().st_ino
    engine = await Engine.start(_config(tmp_path))
    try:
        told = await answer(engine, asking(_HEAD, max_tokens=16, ignore_eos=True))
        assert file not in _files(tmp_path) or file.stat().st_ino != damaged
        assert engine.restarts == 0
    finally:
        await engine.stop()
    assert told.end.cached_tokens == 0
    assert told.text == cold.text


async def test_other_settings_find_nothing(tmp_path: Path) -> None:
    await _told(_config(tmp_path), _HEAD)
    (told,) = await _told(_config(tmp_path, cache_type="q8_0"), _HEAD)
    assert told.end.cached_tokens == 0
    (told,) = await _told(_config(tmp_path, parallel=2), _HEAD)
    assert told.end.cached_tokens == 0
    assert len({file.parent for file in _files(tmp_path)}) == 3


async def test_a_worker_that_is_busy_still_saves_at_the_end(tmp_path: Path) -> None:
    engine = await Engine.start(_config(tmp_path))
    stream = steps(engine, asking(_HEAD, max_tokens=150, ignore_eos=True))
    await anext(stream)
    await anext(stream)
    pid = engine.worker_pid
    assert pid is not None
    await engine.stop()
    await stream.aclose()
    assert is_gone(pid)
    assert [file.suffix for file in _files(tmp_path)] == [".prefix"]


async def test_a_directory_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "prefixes").write_text("a file in its place")
    (told,) = await _told(_config(tmp_path), _HEAD)
    assert told.end.completion_tokens == 16


async def test_a_recurrent_model_says_that_it_does_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tiny(tmp_path / "mamba.gguf", Tiny(architecture="mamba"))
    engine = await Engine.start(_config(tmp_path, model_path=str(path), context=None))
    try:
        prompt = TokenPrompt(tuple(10 + i % 90 for i in range(80)))
        told = [await answer(engine, asking(prompt, max_tokens=4, ignore_eos=True)) for _ in range(2)]
    finally:
        await engine.stop()
    assert told[0].text == told[1].text
    assert "its memory cannot be cut" in caplog.text
    assert not (tmp_path / "prefixes").exists()


async def test_disk_without_memory_is_refused() -> None:
    with pytest.raises(ModelLoadFailed, match="prefix_disk needs prefix_memory"):
        await Engine.start(_config(Path("unused"), prefix_memory_bytes=0))


async def test_a_prefix_on_disk_is_found_by_its_tenant_alone(tmp_path: Path) -> None:
    config = _config(tmp_path)
    requests = [msgspec.structs.replace(asking(_HEAD, max_tokens=8), tenant=tenant) for tenant in ("a", "b")]
    for request, cached in ((requests[0], False), (requests[1], False), (requests[0], True)):
        engine = await Engine.start(config)
        try:
            told = await answer(engine, request)
        finally:
            await engine.stop()
        assert (told.end.cached_tokens > 0) == cached
    assert len(_files(tmp_path)) == 2
