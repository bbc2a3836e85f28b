"""gpt-oss: messages in channels, of which calls are those to ``functions``. The grammar is OpenAI's "harmony"."""

from __future__ import annotations

from collections.abc import Sequence

from generation.reasoning.harmony import CALL, CHANNEL, END, MESSAGE, START
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading, ToolParser
from generation.tools.tool_format import ToolFormat, any_of, quoted

CONSTRAIN = "<|constrain|>"
_TO = "to=functions."


class Harmony(ToolFormat):
    """A call ends the answer, so there is never a second one beside it."""

    markers = (CHANNEL, MESSAGE, END, START, CONSTRAIN)
    forced = "thought* call"
    free = "step* (final | call)"
    shaped = 'step* (%%marker0 "final" %%marker1 %s | call)'

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        head = f"%marker0 {quoted(f'commentary {_TO}')}"
        bodies = [
            f'{head} {quoted(tool.name + " ")} %marker4 "json" %marker1 %schema{len(schemas) + index}'
            for index, tool in enumerate(tools)
        ]
        schemas += [(tool.parameters, tool.param) for tool in tools]
        return "\n".join(
            [
                'thought: %marker0 "analysis" %marker1 %head2 %marker3 "assistant"',
                'aside: %marker0 "commentary" %marker1 %head2 %marker3 "assistant"',
                "step: thought | aside",
                'final: %marker0 "final" %marker1 %text',
                any_of("call", bodies),
            ]
        )

    def parser(self, tools: Sequence[OfferedTool]) -> HarmonyParser:
        return HarmonyParser()


class HarmonyParser(ToolParser):
    """Reads what ``generation.reasoning.harmony`` leaves: text, and each call from its header to its end."""

    def _read(self) -> Reading:
        while (yield from self._text(START)):
            header = yield from self._until(MESSAGE)
            if header is None:
                return
            self.is_unfinished = True
            self._start(header.partition(_TO)[2].partition(" ")[0].partition("<")[0].strip())
            yield from self._blanks()
            if not (yield from self._object()):
                return
            self.is_unfinished = (yield from self._until(CALL)) is None
            yield from self._blanks()
