"""Which notation a model writes its tool calls in: as it was set, or as its chat template shows."""

from __future__ import annotations

import functools

from engine.config import ModelFacts, ToolFormatChoice
from generation.tools.deepseek import DeepSeek, DeepSeekV31
from generation.tools.gemma import Gemma
from generation.tools.general import General
from generation.tools.harmony import Harmony
from generation.tools.hermes import Hermes
from generation.tools.llama3 import Llama3
from generation.tools.mistral import Mistral, MistralArgs
from generation.tools.qwen3_coder import Qwen3Coder
from generation.tools.tool_format import ToolFormat

FORMATS: dict[ToolFormatChoice, ToolFormat] = {
    "general": General(),
    "hermes": Hermes(),
    "llama3": Llama3(),
    "mistral": Mistral(),
    "mistral_args": MistralArgs(),
    "qwen3_coder": Qwen3Coder(),
    "deepseek": DeepSeek(),
    "deepseek_v31": DeepSeekV31(),
    "gemma": Gemma("<start_function_call>", "<end_function_call>", "<escape>"),
    "gemma4": Gemma("<|tool_call>", "<tool_call|>", '<|"|>'),
    "harmony": Harmony(),
}

# The first whose words all stand in the template, and none of the others' do.
_SIGNS: tuple[tuple[ToolFormatChoice, tuple[str, ...], tuple[str, ...]], ...] = (
    ("harmony", ("<|channel|>", "to=functions."), ()),
    ("gemma4", ("<|tool_call>", '<|"|>'), ()),
    ("gemma", ("<start_function_call>", "<escape>"), ()),
    ("qwen3_coder", ("<tool_call>", "<function=", "<parameter="), ()),
    ("deepseek", ("<｜tool▁calls▁begin｜>", "```json"), ()),
    ("deepseek_v31", ("<｜tool▁calls▁begin｜>",), ()),
    ("mistral_args", ("[TOOL_CALLS]", "[ARGS]"), ()),
    ("mistral", ("[TOOL_CALLS]",), ()),
    # GLM writes its arguments in tags of their own; nobody else does.
    ("hermes", ("<tool_call>", "tools"), ("<arg_key>",)),
    ("llama3", ("<|start_header_id|>", "tools", '"parameters"'), ()),
)


def tool_format_of(facts: ModelFacts) -> ToolFormat:
    """The notation of a model; the general one where its template teaches none of ours."""
    return FORMATS[_format_in(facts.chat_template) if facts.tool_format == "auto" else facts.tool_format]


@functools.lru_cache(maxsize=64)
def _format_in(template: str) -> ToolFormatChoice:
    for name, signs, others in _SIGNS:
        if all(sign in template for sign in signs) and not any(other in template for other in others):
            return name
    return "general"
