"""Which way of marking its reasoning a model has, and the stage that reads it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from engine.config import ModelFacts
from engine.constraint.spec import ToolGrammar
from engine.prompt import ChatPrompt, Prompt
from generation.chain import Stage
from generation.reasoning import harmony
from generation.reasoning.harmony import HarmonyReader
from generation.reasoning.tags import TagReader


@dataclass(frozen=True, slots=True)
class TagFormat:
    """Reasoning stands between two tags."""

    opening_tag: str
    closing_tag: str

    @property
    def thought(self) -> tuple[str, str] | None:
        """The tags around a thought, for grammars; None where thoughts have no tags."""
        return self.opening_tag, self.closing_tag

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that the stage looks for; where they are control tokens, the engine must show them."""
        return self.opening_tag, self.closing_tag

    def stage(self, choice: int, prompt: Prompt, opening: str, *, keeps_calls: bool) -> Stage:
        """The stage for one answer to ``prompt``, whose rendering ends in ``opening``."""
        is_inside = opening.rstrip().endswith(self.opening_tag) or self.is_thinking(prompt)
        return TagReader(choice, self.opening_tag, self.closing_tag, is_inside=is_inside)

    def is_thinking(self, prompt: Prompt) -> bool:
        """Whether the answer goes on from a thought that was begun in the last message."""
        said = _continued(prompt)
        return said.lstrip().startswith(self.opening_tag) and self.closing_tag not in said

    def shaped(self, schema: tuple[str, str]) -> ToolGrammar:
        """The grammar of an answer that is JSON of ``schema`` behind whatever the model thinks first.

        With the schema, the field of the request that holds it.
        """
        return ToolGrammar(
            grammar="start: %thought %schema0\n", schemas=(schema,), markers=(), thought=self.thought
        )


_SHAPED_MARKERS = (harmony.CHANNEL, harmony.MESSAGE, harmony.END, harmony.START)
_SHAPED_HARMONY = """\
start: step* %marker0 "final" %marker1 %schema0
step: %marker0 ("analysis" | "commentary") %marker1 %head2 %marker3 "assistant"
"""


@dataclass(frozen=True, slots=True)
class HarmonyFormat:
    """Reasoning is what is said in the analysis channel."""

    markers: tuple[str, ...] = harmony.MARKERS
    thought: tuple[str, str] | None = None

    def stage(self, choice: int, prompt: Prompt, opening: str, *, keeps_calls: bool) -> Stage:
        return HarmonyReader(choice, opening=opening, keeps_calls=keeps_calls)

    def is_thinking(self, prompt: Prompt) -> bool:
        return False

    def shaped(self, schema: tuple[str, str]) -> ToolGrammar:
        return ToolGrammar(grammar=_SHAPED_HARMONY, schemas=(schema,), markers=_SHAPED_MARKERS)


ReasoningFormat = TagFormat | HarmonyFormat

_THINK = TagFormat("<think>", "</think>")
_MAGISTRAL = TagFormat("[THINK]", "[/THINK]")
_HARMONY = HarmonyFormat()


def format_of(facts: ModelFacts) -> ReasoningFormat | None:
    """The format of a model, None where its answers are to be left as they are."""
    match facts.reasoning_format:
        case "auto":
            return _format_in(facts.chat_template)
        case "none":
            return None
        case "think":
            return _THINK
        case "magistral":
            return _MAGISTRAL
        case "harmony":
            return _HARMONY


@functools.lru_cache(maxsize=64)
def _format_in(template: str) -> ReasoningFormat | None:
    """What the chat template knows of reasoning. One that knows nothing of it is that of a model that has none."""
    if "<|channel|>" in template and "<|message|>" in template:
        return _HARMONY
    if "[THINK]" in template:
        return _MAGISTRAL
    if "<think>" in template or "</think>" in template:
        return _THINK
    return None


def _continued(prompt: Prompt) -> str:
    """What the last message says, where the answer continues it."""
    match prompt:
        case ChatPrompt(messages=(*_, last), options=options) if options.continues_last:
            return last.content or ""
        case _:
            return ""
