"""Running one request: engine events in, canonical events out."""

from __future__ import annotations

from collections.abc import Callable

from engine import events as engine_events
from engine.errors import InternalError
from generation.answer_reader import AnswerReader
from generation.engine_port import EnginePort
from generation.events import Event, Finished
from generation.ranking import Ranking
from generation.request import GenerationRequest

Take = Callable[[list[Event]], None]
"""As the engine's, for canonical events; never called with none."""


async def generate(engine: EnginePort, request: GenerationRequest, take: Take) -> None:
    """Run ``request`` to its end, and tell ``take`` what each engine step brings.

    Cancelling the caller cancels the request in the engine. Raises errors of ``engine.errors``, of which InternalError
    when the engine did not finish each choice once: half an answer never passes for a whole. What ``take`` raises ends
    the request, and is raised.
    """
    unfinished = set(range(request.choices))
    ranking = Ranking(request) if request.is_ranked else None
    reader = AnswerReader(request, engine.facts)

    def read(step: list[engine_events.Event]) -> None:
        events = reader.read(step[0])
        for item in step[1:]:
            events += reader.read(item)
        for event in events:
            if isinstance(event, Finished):
                if event.choice not in unfinished:
                    raise InternalError(f"choice {event.choice} is unknown or ended twice")
                unfinished.remove(event.choice)
        if ranking is not None:
            events = ranking.add(events)
        if events:
            take(events)

    await engine.generate(reader.asked(), read)
    if unfinished:
        raise InternalError(f"the engine left choices without an end: {sorted(unfinished)}")
