"""How long to wait before the next dial."""

from random import Random


class Backoff:
    """Exponential with full jitter: any time up to a ceiling that doubles with each attempt.

    Full jitter, because ten thousand piles lose one broker in the same instant, and whatever is fixed in their waits
    brings them back in a wave.
    """

    def __init__(self, first_s: float, max_s: float, rng: Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self.attempts = 0

    def next_delay_s(self) -> float:
        ceiling_s = min(self._max_s, self._first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return self._rng.uniform(0.0, ceiling_s)

    def reset(self) -> None:
        self.attempts = 0
