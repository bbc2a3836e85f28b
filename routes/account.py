"""What one request costs its caller, gathered while it runs and entered when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from generation.events import Event, Finished, Started, Usage
from routes.caller import Caller, Charge


@dataclass(slots=True)
class Account:
    """Owned by the task that does the work of the request."""

    caller: Caller
    charge: Charge
    ends: list[Finished] = field(default_factory=list)
    """What the client is told of each choice."""
    _begun: int = 0
    _sent: int = 0

    def note(self, event: Event) -> None:
        """Look at what goes to the client."""
        if isinstance(event, Finished):
            self.ends.append(event)
            self._sent += event.untold_tokens
        elif isinstance(event, Started):
            self._begun = event.prompt_tokens
        else:
            self._sent += event.tokens

    def close(self, model: str, *, is_whole: bool) -> None:
        """Enter the request: as it was told if it came to its end, else what was sent before it broke off."""
        usage = Usage(prompt_tokens=self._begun, completion_tokens=self._sent)
        if is_whole:
            usage = sum((end.usage for end in self.ends), Usage())
        self.charge.settle(usage.prompt_tokens + usage.completion_tokens)
        if is_whole or self._begun or self._sent:
            self.caller.spent(model, usage)
