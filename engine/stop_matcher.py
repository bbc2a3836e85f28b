"""Stop strings, found across token borders and never sent, in part or whole."""

from __future__ import annotations


class StopMatcher:
    """Watches the text of one sequence for its stop strings.

    Holds back the longest end of the text that could still become a stop string, and nothing more.
    """

    __slots__ = ("_held", "_prefixes", "_stops", "is_matched")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._prefixes = frozenset(stop[:end] for stop in stops for end in range(1, len(stop)))
        self._held = ""
        self.is_matched = False

    def add(self, text: str) -> str:
        """Text that is safe to send now. Once ``is_matched``, what stood before the stop string was the last of it."""
        if not self._stops or not text:
            return text
        seen = self._held + text
        if hits := [(at + len(stop), at) for stop in self._stops if (at := seen.find(stop)) >= 0]:
            self.is_matched = True
            self._held = ""
            # The one that is complete first, so that the answer does not hang on where tokens end.
            return seen[: min(hits)[1]]
        held = self._longest_prefix_at_end(seen)
        self._held = seen[len(seen) - held :]
        return seen[: len(seen) - held]

    def _longest_prefix_at_end(self, text: str) -> int:
        longest = max(map(len, self._stops)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if text[-length:] in self._prefixes:
                return length
        return 0

    def flush(self) -> str:
        """What was held back, once it is certain that no stop string will come of it."""
        held, self._held = self._held, ""
        return held
