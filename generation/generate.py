"""Running one request: engine events in, canonical events out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from engine.errors import InternalError
from generation.answer_reader import AnswerReader
from generation.engine_port import EnginePort
from generation.events import Event, Finished
from generation.ranking import Ranking
from generation.request import GenerationRequest


async def generate(engine: EnginePort, request: GenerationRequest) -> AsyncGenerator[list[Event], None]:
    """Yield what each engine step brought for ``request``, never an empty list.

    Closing the generator cancels the request in the engine. Raises errors of ``engine.errors``, of which
    InternalError when the engine did not finish each choice once: half an answer never passes for a whole.
    """
    unfinished = set(range(request.choices))
    ranking = Ranking(request) if request.is_ranked else None
    reader = AnswerReader(request, engine.facts)
    asked = reader.asked()
    async with aclosing(engine.generate(asked)) as steps:
        async for step in steps:
            if events := [event for item in step for event in reader.read(item)]:
                for event in events:
                    if isinstance(event, Finished):
                        if event.choice not in unfinished:
                            raise InternalError(f"choice {event.choice} is unknown or ended twice")
                        unfinished.remove(event.choice)
                if ranking is not None:
                    events = ranking.add(events)
                if events:
                    yield events
    if unfinished:
        raise InternalError(f"the engine left choices without an end: {sorted(unfinished)}")
