"""Llama 3: a call is a JSON object that is the whole answer, or stands behind ``<|python_tag|>``."""

from __future__ import annotations

from collections.abc import Sequence

from generation.tools.json_call_parser import JsonCallParser
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading
from generation.tools.tool_format import ToolFormat, json_calls, repeated

TAG = "<|python_tag|>"
_BEGINNING = '{"name": "'


class Llama3(ToolFormat):
    markers = (TAG,)
    forced = "rest"
    free = "%text | rest | %head0 rest"
    reserved = _BEGINNING

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        rest = repeated("call", '"; "', is_parallel=is_parallel)
        return f"rest: {rest}\n{json_calls(tools, schemas, 'parameters')}"

    def parser(self, tools: Sequence[OfferedTool]) -> Llama3Parser:
        return Llama3Parser()


class Llama3Parser(JsonCallParser):
    def _read(self) -> Reading:
        if (yield from self._take(_BEGINNING)):
            self._buffer = _BEGINNING + self._buffer
        elif not (yield from self._text(TAG)):
            return
        self.is_unfinished = True
        while (yield from self._json_call("parameters")):
            self.is_unfinished = False
            yield from self._blanks()
            if not (yield from self._take(";")):
                return
            self.is_unfinished = True
