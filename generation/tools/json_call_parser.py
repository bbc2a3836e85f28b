"""Reading calls that are one JSON object each: a name, then arguments."""

from __future__ import annotations

from collections.abc import Generator

from generation.tools.parser import ToolParser

_NAME = ('{"name": "', '{"name":"')


class JsonCallParser(ToolParser):
    """What the families that write such objects have in common."""

    def _json_call(self, key: str) -> Generator[None, None, bool]:
        """Read one object; False when there is none, or the answer ends inside."""
        yield from self._blanks()
        if not (yield from self._take(*_NAME)):
            return False
        if (name := (yield from self._until('"'))) is None:
            return False
        yield from self._blanks()
        yield from self._take(",")
        yield from self._blanks()
        yield from self._take(f'"{key}"')
        yield from self._blanks()
        yield from self._take(":")
        yield from self._blanks()
        self._start(name)
        if not (yield from self._object()):
            return False
        yield from self._blanks()
        return bool((yield from self._take("}")))
