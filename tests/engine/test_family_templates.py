"""The prompts that families of models were trained on, letter for letter, from templates in their published formats.

The expected texts follow what is publicly known of each format, as Meta (Llama 2, 3 and 4), Mistral AI, Google (Gemma),
Microsoft (Phi-3), Alibaba (Qwen), DeepSeek, LMSYS (Vicuna, Koala), LAION (Open Assistant), Stanford (Alpaca) and OpenAI
(harmony) have it. They were not copied from the publishers' files: they hold our templates to these texts, and are no
proof that a publisher's file agrees to the letter.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.chat_template import ChatTemplate
from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt, TemplateOptions
from engine.template_choice import read_template, template_names

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "chat_templates"
_BEGINNINGS = {
    "llama3": "<|begin_of_text|>",
    "llama4": "<|begin_of_text|>",
    "gemma": "<bos>",
    "deepseek-r1": "<｜begin▁of▁sentence｜>",
}

SYSTEM, HI, HELLO, HOW = (
    ChatMessage(role="system", content="Be brief."),
    ChatMessage(role="user", content="Hi"),
    ChatMessage(role="assistant", content="Hello"),
    ChatMessage(role="user", content="How are you?"),
)


def source_of(family: str) -> str:
    file = FIXTURES / f"{family}.jinja"
    return file.read_text(encoding="utf-8") if file.exists() else read_template(family)


def render(family: str, *messages: ChatMessage, **options: Any) -> str:
    template = ChatTemplate(
        source_of(family), beginning=_BEGINNINGS.get(family, "<s>"), end="</s>", control_texts=()
    )
    return template.render(ChatPrompt(messages, options=TemplateOptions(**options))).text


TURNS = {
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama2": (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] How are you? [/INST]"
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHow are you?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "llama4": (
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|>"
        "<|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>\n\nHello<|eot|>"
        "<|header_start|>user<|header_end|>\n\nHow are you?<|eot|><|header_start|>assistant<|header_end|>\n\n"
    ),
    "mistral": "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] How are you? [/INST]",
    "gemma": (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nHow are you?<end_of_turn>\n<start_of_turn>model\n"
    ),
    "phi3": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n"
        "<|user|>\nHow are you?<|end|>\n<|assistant|>\n"
    ),
    "zephyr": (
        "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello</s>\n"
        "<|user|>\nHow are you?</s>\n<|assistant|>\n"
    ),
    "vicuna": "Be brief. USER: Hi ASSISTANT: Hello</s>USER: How are you? ASSISTANT:",
    "alpaca": (
        "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n"
        "### Instruction:\nHow are you?\n\n### Response:\n"
    ),
    "koala": "Be brief. USER: Hi GPT: Hello</s>USER: How are you? GPT:",
    "open-assistant": (
        "<|system|>Be brief.</s><|prompter|>Hi</s><|assistant|>Hello</s><|prompter|>How are you?</s><|assistant|>"
    ),
    "qwen3": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "deepseek-r1": (
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜>"
        "<｜User｜>How are you?<｜Assistant｜><think>\n"
    ),
}


@pytest.mark.parametrize("family", TURNS)
def test_a_system_message_and_three_turns(family: str) -> None:
    assert render(family, SYSTEM, HI, HELLO, HOW) == TURNS[family]


def test_every_family_that_is_built_in_is_tested() -> None:
    assert set(template_names()) <= TURNS.keys()


@pytest.mark.parametrize(
    ("family", "text"),
    [
        (
            "vicuna",
            "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions. USER: Hi ASSISTANT:",
        ),
        (
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately completes the"
            " request.\n\n### Instruction:\nHi\n\n### Response:\n",
        ),
        ("koala", "BEGINNING OF CONVERSATION: USER: Hi GPT:"),
        ("open-assistant", "<|prompter|>Hi</s><|assistant|>"),
        ("chatml", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        ("llama2", "<s>[INST] Hi [/INST]"),
        ("mistral", "<s>[INST] Hi [/INST]"),
        ("gemma", "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"),
    ],
)
def test_without_a_system_message_a_family_has_its_own_or_none(family: str, text: str) -> None:
    assert render(family, HI) == text


@pytest.mark.parametrize("family", ["llama2", "mistral", "gemma", "vicuna", "alpaca", "koala"])
def test_what_a_family_was_never_shown_is_refused(family: str) -> None:
    with pytest.raises(InvalidRequest, match="role"):
        render(family, HI, SYSTEM)


@pytest.mark.parametrize("family", TURNS)
def test_an_answer_that_was_begun_is_continued_in_every_family(family: str) -> None:
    text = render(family, HI, HELLO, adds_generation_prompt=False, continues_last=True)
    assert text.endswith("Hello")
    assert "Hi" in text


def test_qwen_thinks_or_not_as_it_is_told() -> None:
    opened = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render("qwen3", HI) == render("qwen3", HI, kwargs={"enable_thinking": True}) == opened
    closed = opened + "<think>\n\n</think>\n\n"
    assert render("qwen3", HI, kwargs={"enable_thinking": False}) == closed
    assert render("qwen3", HI, reasoning_effort="none") == closed
    with pytest.raises(InvalidRequest):
        render("qwen3", HI, reasoning_effort="high")


@pytest.mark.parametrize(
    "told",
    [
        ChatMessage(role="assistant", content="Hello", reasoning="A greeting."),
        ChatMessage(role="assistant", content="<think>\nA greeting.\n</think>\n\nHello"),
    ],
)
def test_qwen_forgets_what_it_thought_before(told: ChatMessage) -> None:
    past = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert render("qwen3", HI, told, HOW).startswith(past)
    now = "<|im_start|>assistant\n<think>\nA greeting.\n</think>\n\nHello<|im_end|>\n"
    assert render("qwen3", HI, told, adds_generation_prompt=False).endswith(now)


def test_deepseek_drops_past_thoughts() -> None:
    told = ChatMessage(role="assistant", content="<think>\nHm\n</think>Hello")
    assert "<｜Assistant｜>Hello<｜end▁of▁sentence｜>" in render("deepseek-r1", HI, told, HOW)


@pytest.mark.parametrize("effort", [None, "low", "medium", "high"])
def test_gpt_oss_is_told_the_date_and_the_effort(effort: str | None) -> None:
    text = render("gpt-oss", SYSTEM, HI, HELLO, HOW, reasoning_effort=effort)
    head, today, rest = text.partition(f"{datetime.datetime.now():%Y-%m-%d}")
    assert today
    assert head == (
        "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
        "Knowledge cutoff: 2024-06\nCurrent date: "
    )
    assert rest == (
        f"\n\nReasoning: {effort or 'medium'}\n\n# Valid channels: analysis, commentary, final. "
        "Channel must be included for every message.<|end|>"
        "<|start|>developer<|message|># Instructions\n\nBe brief.<|end|>"
        "<|start|>user<|message|>Hi<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Hello<|end|>"
        "<|start|>user<|message|>How are you?<|end|><|start|>assistant"
    )


def test_gpt_oss_has_no_other_effort_and_goes_on_in_its_last_message() -> None:
    with pytest.raises(InvalidRequest, match="low, medium and high"):
        render("gpt-oss", HI, reasoning_effort="minimal")
    begun = render("gpt-oss", HI, HELLO, adds_generation_prompt=False, continues_last=True)
    assert begun.endswith("<|start|>assistant<|channel|>final<|message|>Hello")
