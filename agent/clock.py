"""The clocks as the core takes them."""

import time

from agent.pile.state import Now
from agent.version import RELEASED_MS


def now() -> Now:
    """Both clocks in ms. A wall clock from before this release (1970, a dead battery) is not believed."""
    wall_ms = time.time_ns() // 1_000_000
    return Now(wall_ms, time.monotonic_ns() // 1_000_000, trusted=wall_ms >= RELEASED_MS)
