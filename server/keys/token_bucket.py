"""So many of something a minute: a bucket that fills steadily, and may be overdrawn by what was not foreseen. Pure."""

from __future__ import annotations

_MINUTE_S = 60.0


class TokenBucket:
    """``limit`` at once, and ``limit`` a minute in the long run. Owned by the event loop, and told the time."""

    def __init__(self, limit: int, now: float) -> None:
        """``now``: seconds on any clock that never goes back, the same in every call."""
        self.limit = limit
        self._level = float(limit)
        self._seen = now

    def level(self, now: float) -> float:
        """What is left; negative when more was used than was there."""
        self._level = min(float(self.limit), self._level + (now - self._seen) * self.limit / _MINUTE_S)
        self._seen = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there, 0 if it is. What is more than the limit waits for a full bucket."""
        missing = min(amount, float(self.limit)) - self.level(now)
        # Less than a billionth is the rounding of the level, for which nobody has to wait.
        return missing * _MINUTE_S / self.limit if missing > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Use ``amount``, there or not; a negative one gives back."""
        self._level = min(float(self.limit), self.level(now) - amount)

    def full_in_s(self, now: float) -> float:
        """Seconds until nothing is missing any more."""
        return self.wait_s(self.limit, now)

    def resize(self, limit: int, now: float) -> None:
        """Another limit from now on; what was used stays used."""
        used = self.limit - self.level(now)
        self.limit, self._level = limit, limit - used
