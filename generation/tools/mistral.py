"""Mistral: a list of JSON objects behind ``[TOOL_CALLS]``; since its version 11, a name and ``[ARGS]`` instead."""

from __future__ import annotations

from collections.abc import Sequence

from generation.tools.json_call_parser import JsonCallParser
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading, ToolParser
from generation.tools.tool_format import ToolFormat, any_of, json_calls, quoted, repeated

OPEN, ARGS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"


class Mistral(ToolFormat):
    markers = (OPEN,)

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        calls = repeated("call", '", "', is_parallel=is_parallel)
        return f'rest: " "? "[" {calls} "]"\n{json_calls(tools, schemas, "arguments")}'

    def parser(self, tools: Sequence[OfferedTool]) -> MistralParser:
        return MistralParser()


class MistralParser(JsonCallParser):
    def _read(self) -> Reading:
        if not (yield from self._text(OPEN)):
            return
        self.is_unfinished = True
        yield from self._blanks()
        yield from self._take("[")
        while (yield from self._json_call("arguments")):
            yield from self._blanks()
            if not (yield from self._take(",")):
                self.is_unfinished = not (yield from self._take("]"))
                return


class MistralArgs(ToolFormat):
    markers = (OPEN, ARGS)

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        bodies = [
            f"{quoted(tool.name)} %marker1 %schema{len(schemas) + index}" for index, tool in enumerate(tools)
        ]
        schemas += [(tool.parameters, tool.param) for tool in tools]
        rest = repeated("call", "%marker0", is_parallel=is_parallel)
        return f"rest: {rest}\n{any_of('call', bodies)}"

    def parser(self, tools: Sequence[OfferedTool]) -> MistralArgsParser:
        return MistralArgsParser()


class MistralArgsParser(ToolParser):
    def _read(self) -> Reading:
        marker = yield from self._text(OPEN)
        while marker:
            self.is_unfinished = True
            if (head := (yield from self._until(ARGS))) is None:
                return
            self._start(head.partition(CALL_ID)[0].strip())
            yield from self._blanks()
            if not (yield from self._object()):
                return
            self.is_unfinished = False
            yield from self._blanks()
            marker = yield from self._take(OPEN)
