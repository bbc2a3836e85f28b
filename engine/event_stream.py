"""What one request is told, from the frame that brings it to whoever takes it: in the same turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable

from engine.events import Accepted, Event, Piece
from engine.gathering import Gathering

Take = Callable[[list[Event]], None]
"""Called on the event loop with what one engine step has brought; must not block. What it raises ends the request."""


class EventStream(Gathering[None]):
    """Events of one request. No task wakes for a token: to wake one takes longer than all that is done for it.

    ``result`` waits until every choice has ended.
    """

    def __init__(self, choices: int, take: Take) -> None:
        super().__init__()
        self.choices_left = choices
        self._take = take
        self._held: list[Event] = []
        """Of the step that is being told."""
        self._takes_more = True
        """Neither ended nor failed: in one look, since it is asked for each token."""

    def push(self, event: Accepted | Piece) -> bool:
        """Hold an event until ``tell``; nothing is held once the stream is over. Whether it is the first that is."""
        if not self._takes_more:
            return False
        if isinstance(event, Piece) and event.finish is not None:
            self.choices_left -= 1
            self._takes_more = self.choices_left > 0
        self._held.append(event)
        return len(self._held) == 1

    def fail(self, error: Exception) -> None:
        self._takes_more = False
        super().fail(error)

    def tell(self) -> None:
        """Hand on what is held, all at once: one engine step makes one chunk."""
        held, self._held = self._held, []
        try:
            self._take(held)
        except Exception as error:
            # Whoever waits for the end raises it; and other streams that the frame is about go on.
            self.fail(error)
        else:
            if self.choices_left == 0 and not self.is_over:
                self._result.set_result(None)
