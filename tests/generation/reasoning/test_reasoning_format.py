from __future__ import annotations

import msgspec
import pytest

from engine.config import ReasoningChoice
from engine.prompt import ChatMessage, ChatPrompt
from generation.reasoning.harmony import HarmonyReader
from generation.reasoning.reasoning_format import format_of
from generation.reasoning.tags import TagReader
from tests.fakes.facts import facts
from tests.generation.reasoning.pieces import read

_PROMPT = ChatPrompt((ChatMessage(role="user", content="Hi"),))


@pytest.mark.parametrize(
    ("template", "markers"),
    [
        ("{{ '<|im_start|>' + message.content }}", None),
        ("{% if '</think>' in content %}", ("<think>", "</think>")),
        ("{{ '[THINK]' }}", ("[THINK]", "[/THINK]")),
        ("<|start|>assistant<|channel|>final<|message|>", "<|channel|>"),
        ("", None),
    ],
)
def test_the_template_tells_how_reasoning_is_marked(
    template: str, markers: tuple[str, ...] | str | None
) -> None:
    found = format_of(msgspec.structs.replace(facts(), chat_template=template))
    if isinstance(markers, str):
        assert found
        assert markers in found.markers
    else:
        assert (found.markers if found else None) == markers


@pytest.mark.parametrize(
    ("choice", "stage"),
    [("none", None), ("think", TagReader), ("magistral", TagReader), ("harmony", HarmonyReader)],
)
def test_what_is_configured_goes_before_what_the_template_tells(
    choice: ReasoningChoice, stage: type[object] | None
) -> None:
    found = format_of(msgspec.structs.replace(facts(), chat_template="<think>", reasoning_format=choice))
    assert (type(found.stage(0, _PROMPT, "", keeps_calls=False)) if found else None) is stage


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        ("<|im_start|>assistant\n", ("", "a</think>b")),
        ("<|im_start|>assistant\n<think>\n", ("a", "b")),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ("", "a</think>b")),
    ],
)
def test_the_prompt_tells_whether_a_thought_has_begun(opening: str, expected: tuple[str, str]) -> None:
    found = format_of(msgspec.structs.replace(facts(), reasoning_format="think"))
    assert found
    assert read(found.stage(0, _PROMPT, opening, keeps_calls=False), ["a</think>b"])[:2] == expected
