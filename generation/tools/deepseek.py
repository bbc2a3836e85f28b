"""DeepSeek: calls between control tokens, with their arguments in a code block until V3.1, and bare since then."""

from __future__ import annotations

from collections.abc import Sequence

from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading, ToolParser
from generation.tools.tool_format import ToolFormat, any_of, quoted, repeated

ALL, CALL, SEPARATOR, END, ALL_END = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
_BLOCK, _BLOCK_END = "\n```json\n", "\n```"


class DeepSeek(ToolFormat):
    markers = (ALL, CALL, SEPARATOR, END, ALL_END)
    between = '"\\n"'

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        bodies = [self.body(tool.name, f"%schema{len(schemas) + index}") for index, tool in enumerate(tools)]
        schemas += [(tool.parameters, tool.param) for tool in tools]
        calls = repeated("call", self.between, is_parallel=is_parallel)
        return f"rest: {calls} %marker4\n{any_of('call', bodies)}"

    def body(self, name: str, schema: str) -> str:
        """One call of ``name``."""
        head = f'%marker1 "function" %marker2 {quoted(name + _BLOCK)}'
        return f"{head} {schema} {quoted(_BLOCK_END)} %marker3"

    def parser(self, tools: Sequence[OfferedTool]) -> DeepSeekParser:
        return DeepSeekParser(has_blocks=True)


class DeepSeekV31(DeepSeek):
    between = '""'

    def body(self, name: str, schema: str) -> str:
        return f"%marker1 {quoted(name)} %marker2 {schema} %marker3"

    def parser(self, tools: Sequence[OfferedTool]) -> DeepSeekParser:
        return DeepSeekParser(has_blocks=False)


class DeepSeekParser(ToolParser):
    def __init__(self, *, has_blocks: bool) -> None:
        super().__init__()
        self._has_blocks = has_blocks

    def _read(self) -> Reading:
        if not (yield from self._text(ALL)):
            return
        self.is_unfinished = True
        yield from self._blanks()
        while (yield from self._take(CALL)):
            name = yield from self._until(SEPARATOR)
            if name is not None and self._has_blocks:
                name = yield from self._until(_BLOCK)
            if name is None:
                return
            self._start(name.strip())
            yield from self._blanks()
            if not (yield from self._object()):
                return
            if (yield from self._until(END)) is None:
                return
            yield from self._blanks()
        self.is_unfinished = not (yield from self._take(ALL_END))
