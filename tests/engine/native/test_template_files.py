"""Families' templates in files: what the native side reads is what was written, and renders as the text itself does."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.chat_template import ChatTemplate
from engine.native.model import NativeModel
from engine.prompt import ChatMessage, ChatPrompt
from engine.template_choice import template_names
from tests.engine.test_family_templates import FIXTURES, source_of
from tests.fixtures.tiny_gguf import Tiny, write_tiny

FAMILIES = sorted({*template_names(), *(file.stem for file in FIXTURES.glob("*.jinja"))})
CHAT = ChatPrompt((ChatMessage(role="user", content="Hi"),))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_s_template_survives_its_file(tmp_path: Path, family: str) -> None:
    source = source_of(family)
    model = NativeModel(str(write_tiny(tmp_path / f"{family}.gguf", Tiny(template=source))), None)
    assert model.chat_template == source
    read, told = (
        ChatTemplate(text, beginning="<s>", end="</s>", control_texts=()).render(CHAT).text
        for text in (model.chat_template, source)
    )
    assert read == told
    assert "Hi" in read
