"""Running one request: engine events in, canonical events out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from engine import events as engine_events
from engine.errors import InternalError
from generation.engine_port import EnginePort
from generation.events import Event, Finished, Started, TextDelta, Timings, Usage
from generation.request import GenerationRequest


async def generate(engine: EnginePort, request: GenerationRequest) -> AsyncGenerator[list[Event], None]:
    """Yield what each engine step brought for ``request``, never an empty list.

    Closing the generator cancels the request in the engine. Raises errors of ``engine.errors``, of which
    InternalError when the engine did not finish each choice once: half an answer never passes for a whole.
    """
    unfinished = set(range(request.choices))
    async with aclosing(engine.generate(request.for_engine())) as steps:
        async for step in steps:
            if events := [event for item in step for event in _translate(item, request)]:
                for event in events:
                    if isinstance(event, Finished):
                        if event.choice not in unfinished:
                            raise InternalError(f"choice {event.choice} is unknown or ended twice")
                        unfinished.remove(event.choice)
                yield events
    if unfinished:
        raise InternalError(f"the engine left choices without an end: {sorted(unfinished)}")


def _translate(item: engine_events.Event, request: GenerationRequest) -> list[Event]:
    if isinstance(item, engine_events.Accepted):
        return [Started(item.prompt_tokens)]
    events: list[Event] = []
    if item.text:
        events.append(TextDelta(item.choice, item.text, item.tokens))
    if finish := item.finish:
        # Drafts are looked up in the text as well; only where there is a prediction does OpenAI's count apply.
        predicted = (
            (finish.accepted_tokens, finish.drafted_tokens) if request.prediction is not None else (0, 0)
        )
        usage = Usage(
            finish.prompt_tokens,
            finish.cached_tokens,
            finish.completion_tokens,
            accepted_prediction_tokens=predicted[0],
            rejected_prediction_tokens=predicted[1] - predicted[0],
        )
        timings = Timings(
            queue_s=finish.queue_s,
            prefill_s=finish.prefill_s,
            decode_s=finish.decode_s,
            drafted_tokens=finish.drafted_tokens,
            accepted_tokens=finish.accepted_tokens,
            forced_tokens=finish.forced_tokens,
        )
        events.append(Finished(item.choice, finish.reason, usage, timings))
    return events
