"""Filling in the middle, with a real vocabulary whose file names the markers, and with one whose file does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import InvalidRequest
from engine.native.model import NativeModel
from engine.prompt import InfillPrompt, TextPrompt, TokenPrompt
from tests.engine.real import answer, asking
from tests.engine.test_real_logprobs import scored
from tests.fixtures.tiny_gguf import BYTES_AT, Tiny, write_tiny

pytestmark = pytest.mark.model
PREFIX, SUFFIX, MIDDLE = BYTES_AT + 1, BYTES_AT + 2, BYTES_AT + 3


def test_the_markers_are_those_of_the_file(tmp_path: Path) -> None:
    with_markers = NativeModel(str(write_tiny(tmp_path / "infills.gguf", Tiny(infills=True))), 0)
    without = NativeModel(str(write_tiny(tmp_path / "tiny.gguf")), 0)
    try:
        assert with_markers.vocabulary.infill_tokens == (PREFIX, SUFFIX, MIDDLE)
        assert without.vocabulary.infill_tokens is None
    finally:
        with_markers.close()
        without.close()


async def test_a_gap_is_filled_as_its_tokens_are_continued(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "infills.gguf", Tiny(infills=True))
    engine = await Engine.start(EngineConfig(model_id="tiny", model_path=str(path), parallel=2, threads=1))
    try:
        gap = asking(InfillPrompt(TokenPrompt((BYTES_AT + 65,)), ""), max_tokens=8, ignore_eos=True)
        by_hand = TokenPrompt((1, PREFIX, BYTES_AT + 65, SUFFIX, MIDDLE))
        filled = await answer(engine, gap)
        assert filled.end.prompt_tokens == 5
        assert filled.text == (await answer(engine, asking(by_hand, max_tokens=8, ignore_eos=True))).text

        request = msgspec.structs.replace(
            asking(InfillPrompt(TextPrompt("A hi"), "Z"), max_tokens=2, ignore_eos=True),
            echo=True,
            logprobs=1,
        )
        text, tokens, last = await scored(engine, request)
        assert last.finish is not None
        assert text.startswith("A hi")
        assert "Z" not in text[:4]
        # This vocabulary has no space, and spells SentencePiece's sign for it in bytes.
        echoed = b"".join(token.raw for token in tokens[:-2]).decode()
        assert echoed.replace("▁", " ").strip() == "A hi"
    finally:
        await engine.stop()


async def test_a_model_without_markers_refuses_by_name(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    engine = await Engine.start(EngineConfig(model_id="tiny", model_path=str(path), parallel=2, threads=1))
    try:
        with pytest.raises(InvalidRequest) as caught:
            await answer(engine, asking(InfillPrompt(TextPrompt("a"), "b"), max_tokens=2))
        assert caught.value.param == "suffix"
    finally:
        await engine.stop()
