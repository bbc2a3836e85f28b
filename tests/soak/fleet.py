"""A server to be soaked: many tiny models, or the bundled one, in processes that can be hurt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from model_registry.sources.bundled import BUNDLED_ID
from tests.end_to_end.live_server import LiveServer
from tests.end_to_end.patience import eventually
from tests.fixtures.tiny_gguf import Tiny, write_tiny

_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
CONTEXT = 512


class Fleet(LiveServer):
    """``nibble serve`` with models of its own, which are loaded when ``ready_all`` returns."""

    def __init__(
        self, home: Path, *arguments: str, tiny: int = 0, extra: Mapping[str, str] | None = None
    ) -> None:
        """``tiny`` models, each of other weights; with none, the bundled model alone."""
        (home / "models").mkdir(parents=True)
        self.models = [f"tiny{number}" for number in range(tiny)] or [BUNDLED_ID]
        for number in range(tiny):
            shape = Tiny(template=_TEMPLATE, context=CONTEXT, seed=number)
            write_tiny(home / "models" / f"tiny{number}.gguf", shape)
        self.home = home
        settings = {"NIBBLE_PRELOAD": ",".join(self.models), "NIBBLE_PREFIX_MEMORY": "8MB"}
        super().__init__(home, "--context", str(CONTEXT), *arguments, extra=settings | dict(extra or {}))

    def ready_all(self) -> Fleet:
        """Wait until every model has a worker and has answered."""
        for model in self.models:
            eventually(partial(self.one_answer, model), lambda seen: seen == 200, f"{model} answers")
        return self

    def one_answer(self, model: str) -> int:
        return self.post("/v1/completions", {"model": model, "prompt": "1", "max_tokens": 1}).status_code

    def worker(self, model: str) -> int | None:
        """The process id of a model's worker; None while there is none."""
        return self.workers().get(f"{model}.gguf")

    def is_idle(self) -> bool:
        figures = self.figures()
        return figures.running == figures.waiting == 0

    def ask_as_admin(self, path: str) -> Any:
        """The answer to a GET with the key that the server keeps for commands of its own user."""
        (record,) = (self.home / "servers").glob("*.json")
        key = json.loads(record.read_text())["key"]
        return self.http.get(path, headers={"authorization": f"Bearer {key}"}).raise_for_status().json()

    def wait_until_idle(self) -> None:
        eventually(self.is_idle, bool, "no request runs or waits")

    def has_traceback(self) -> bool:
        """Whether the server logged one of its own; a worker that dies may tell what of."""
        return any("Traceback" in line and "] worker " not in line for line in self.log().splitlines())
