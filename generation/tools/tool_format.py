"""What a family of models brings: the grammar of its calls, and the parser that reads them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from engine.constraint.spec import ToolGrammar
from engine.prompt import ChatPrompt
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import ToolParser


class ToolFormat(ABC):
    """One notation of tool calls. Holds no state.

    Grammars are Lark as ``engine.constraint.tool_grammar`` reads it: ``%marker0`` is the first of ``markers``,
    ``%head0`` free text up to and with it, ``%text`` free text without it, ``%schema0`` JSON of the first schema.
    """

    markers: ClassVar[tuple[str, ...]]
    """Texts that may be control tokens of the vocabulary; the first opens the calls."""
    forced: ClassVar[str] = "%marker0 rest"
    """An answer that is nothing but calls."""
    free: ClassVar[str] = "%text | %head0 rest"
    """Any answer: text, with calls at its end or without."""
    shaped: ClassVar[str] = "%s | %%marker0 rest"
    """Either calls or text of a given form, which is put in for ``%s``."""
    reserved: ClassVar[str] = ""
    """What no free text may begin with."""

    def grammar(
        self,
        tools: Sequence[OfferedTool],
        *,
        is_forced: bool,
        is_parallel: bool,
        thought: tuple[str, str] | None = None,
        text_schema: tuple[str, str] | None = None,
    ) -> ToolGrammar:
        """What an answer may be. Raises InvalidRequest for a schema that cannot be written in this notation.

        ``thought`` are the tags of what a model may think first; ``text_schema`` is the schema of an answer that
        calls nothing, and the field that holds it.
        """
        schemas: list[tuple[str, str]] = []
        rules = self.rules(tools, schemas, is_parallel=is_parallel)
        start, answer = ("%inside", self.forced) if is_forced else ("%thought", self.free)
        if text_schema is not None and not is_forced:
            answer = self.shaped % f"%schema{len(schemas)}"
            schemas.append(text_schema)
        return ToolGrammar(
            grammar=f"start: {start} answer\nanswer: {answer}\n{rules}\n",
            schemas=tuple(schemas),
            markers=self.markers,
            reserved=self.reserved,
            thought=thought,
        )

    @abstractmethod
    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        """The rules behind ``forced`` and ``free``. Adds to ``schemas``: JSON text, and the field to name."""

    @abstractmethod
    def parser(self, tools: Sequence[OfferedTool]) -> ToolParser:
        """A reader for one answer."""

    def prompt(self, prompt: ChatPrompt) -> ChatPrompt:
        """``prompt`` as the model's template can read it: as it is, where it knows of tools."""
        return prompt


def quoted(text: str) -> str:
    """``text`` as a literal of Lark."""
    return json.dumps(text, ensure_ascii=False).replace("%", "\\u0025")


def any_of(rule: str, alternatives: Sequence[str]) -> str:
    """A rule that is one of ``alternatives``, each a rule of its own, named by its number."""
    names = [f"{rule}{index}" for index in range(len(alternatives))]
    lines = [f"{rule}: {' | '.join(names)}"]
    lines += [f"{name}: {body}" for name, body in zip(names, alternatives, strict=True)]
    return "\n".join(lines)


def repeated(call: str, separator: str, *, is_parallel: bool) -> str:
    """``call``, once or as often as the model wants."""
    return f"{call} ({separator} {call})*" if is_parallel else call


def json_calls(tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], key: str) -> str:
    """The rule ``call``: a name and its arguments in one JSON object."""
    bodies = []
    for tool in tools:
        head = quoted(f'{{"name": "{tool.name}", "{key}": ')
        bodies.append(f"{head} %schema{len(schemas)} {quoted('}')}")
        schemas.append((tool.parameters, tool.param))
    return any_of("call", bodies)
