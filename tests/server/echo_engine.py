"""An engine that answers with the prompt's words, one a step, and then waits at a gate if there is one.

Run as a program it is ``nibble serve`` with that engine: the whole process without a model.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from engine.adapter import Adapter
from engine.config import EngineConfig, EngineStats
from engine.embedding import EmbeddingRequest, Embeddings
from engine.errors import ModelLoadFailed
from engine.event_stream import Take
from engine.events import Accepted, Finish, Piece
from engine.process_memory import ProcessMemory
from engine.prompt import ChatPrompt, TextPrompt
from engine.question import Answer, Question
from engine.request import EngineRequest
from tests.fakes.facts import facts


class EchoEngine:
    """Satisfies ``EngineHandle``."""

    def __init__(self, config: EngineConfig) -> None:
        self.facts = facts()
        self.stats = EngineStats(kv_capacity_tokens=1000)
        self.restarts = 0
        self.stalls = 0
        self.memory: ProcessMemory | None = None
        self.failure = None
        self.is_ready = True
        self.adapters = {adapter.name: adapter for adapter in config.adapters}

    @classmethod
    async def start(cls, config: EngineConfig) -> EchoEngine:
        if "broken" in config.model_id:
            raise ModelLoadFailed(f"{config.model_path} is broken: download it again")
        return cls(config)

    async def generate(self, request: EngineRequest, take: Take) -> None:
        prompt = request.prompts[0]
        match prompt:
            case ChatPrompt(messages=messages):
                words = (messages[-1].content or "").split()
            case TextPrompt(text=text):
                words = text.split()
            case _:
                words = ["tokens"]
        self.stats.running += 1
        self.stats.prompt_tokens_total += len(words)
        try:
            take([Accepted(0, len(words))])
            for word in words:
                take([Piece(0, 0, f"{word} ", 1)])
                await asyncio.sleep(0)
                self.stats.generation_tokens_total += 1
            if gate := os.environ.get("ECHO_GATE"):
                await _opened(Path(gate))
            take([Piece(0, 0, "end", 1, Finish("stop", len(words), 0, len(words) + 1, 0.01, 0.02, 0.03))])
        finally:
            self.stats.running -= 1

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise NotImplementedError

    async def ask(self, question: Question) -> Answer:
        raise NotImplementedError

    async def load_adapter(self, adapter: Adapter) -> None:
        self.adapters[adapter.name] = adapter

    async def drop_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    async def stop(self) -> None:
        self.is_ready = False


async def _opened(gate: Path) -> None:
    """Wait for a named pipe to be written to: a gate between two processes."""
    loop = asyncio.get_running_loop()
    descriptor = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


if __name__ == "__main__":
    from server import lean_imports
    from server.serve import StartError, run
    from server.settings import load_settings

    if "ECHO_IMPORT_GATE" in os.environ:
        import_gate, import_at_once = Path(os.environ["ECHO_IMPORT_GATE"]), lean_imports.import_fastapi

        def import_fastapi() -> None:
            """Only when the named pipe is opened for writing."""
            import_gate.read_bytes()
            import_at_once()

        lean_imports.import_fastapi = import_fastapi

    try:
        sys.exit(run(load_settings(), EchoEngine.start))
    except StartError as failure:
        sys.exit(f"nibble: {failure}")
