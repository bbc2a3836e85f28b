"""When a worker that died is started again: soon at first, then later, and not for ever. Pure."""

from __future__ import annotations

from collections import deque

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
BREAKER_DEATHS = 5
BREAKER_WINDOW_S = 600.0


class RestartPolicy:
    """Counts the deaths of one engine's workers. Times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=BREAKER_DEATHS)

    def delay_after_death(self, now_s: float) -> float | None:
        """Seconds to wait before the next start, doubling with each recent death; None when it is to stay down."""
        self._deaths.append(now_s)
        recent = sum(1 for death in self._deaths if now_s - death < BREAKER_WINDOW_S)
        if recent >= BREAKER_DEATHS:
            return None
        return min(FIRST_DELAY_S * 2.0 ** (recent - 1), LONGEST_DELAY_S)
