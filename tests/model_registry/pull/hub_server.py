"""Answers of a hub: its listing of a repository, and the files of one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tests.model_registry.pull.file_server import FileServer, Handler, Step, honest


def listing(files: Mapping[str, bytes]) -> Step:
    """The listing of a repository with these files."""

    def answer(handler: Handler) -> None:
        lines = [
            {"type": "file", "path": path, "size": len(content)} for path, content in sorted(files.items())
        ]
        body = msgspec.json.encode(lines)
        handler.head(200, len(body))
        handler.wfile.write(body)

    return answer


def serves(files: Mapping[str, bytes], then: Step = honest) -> Step:
    """From here on: whichever of the files is asked for."""

    def answer(handler: Handler) -> None:
        server: FileServer = handler.server
        server.content = files[handler.path.rpartition("/")[2]]
        server.steps.insert(0, answer)
        then(handler)

    return answer
