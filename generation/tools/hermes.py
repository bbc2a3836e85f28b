"""Nous Hermes and Qwen: each call is a JSON object in ``<tool_call>`` tags."""

from __future__ import annotations

from collections.abc import Sequence

from generation.tools.json_call_parser import JsonCallParser
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading
from generation.tools.tool_format import ToolFormat, json_calls, repeated

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Hermes(ToolFormat):
    markers = (OPEN, CLOSE)

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        rest = repeated('"\\n" call "\\n" %marker1', '"\\n" %marker0', is_parallel=is_parallel)
        return f"rest: {rest}\n{json_calls(tools, schemas, 'arguments')}"

    def parser(self, tools: Sequence[OfferedTool]) -> HermesParser:
        return HermesParser()


class HermesParser(JsonCallParser):
    def _read(self) -> Reading:
        if not (yield from self._text(OPEN)):
            return
        self.is_unfinished = True
        while (yield from self._json_call("arguments")):
            yield from self._blanks()
            self.is_unfinished = not (yield from self._take(CLOSE))
            yield from self._blanks()
            if not (yield from self._take(OPEN)):
                return
            self.is_unfinished = True
