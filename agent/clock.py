"""What time it is, as far as that is known (docs/adr/0013-time.md).

A system clock after this release's date was set, by NTP or a battery, and counts at once. While it shows 1970 the time
goes by the platform's commands: the stamp of one, and what the monotonic clock has counted since. A command may have
waited at the broker, so that stamp says no more than "at least": a later one may set the clock forward, never back.
"""

import time
from pathlib import Path

from agent.pile.state import KnownTime, Now
from agent.version import RELEASED_MS

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
JUST_MS = 120_000  # a board is up in seconds; what starts later was started by hand
LIFETIME_MS = 20 * 365 * 86_400_000  # of a release: a stamp from after it is a mistake
NS_PER_MS = 1_000_000


class Clock:
    """The clock of the process. Any thread may ask for ``now``; only the main thread tells it what it has heard."""

    def __init__(self) -> None:
        self._boot = boot_id()
        self._is_new_boot = False  # since an earlier life of the agent
        self._ahead_ms: int | None = None  # of the monotonic clock, by the platform's commands. One word: needs no lock

    def now(self) -> Now:
        """Both clocks in ms. While nothing is known of the time the wall clock shows that since the kernel's boot."""
        wall_ms, mono_ms = time.time_ns() // NS_PER_MS, _mono_ms()
        if wall_ms >= RELEASED_MS:
            return Now(wall_ms, mono_ms, boot=self._boot)
        ahead_ms = self._ahead_ms
        if ahead_ms is not None:
            return Now(mono_ms + ahead_ms, mono_ms, is_estimate=True, boot=self._boot)
        return Now(mono_ms, mono_ms, trusted=False, boot=self._boot)

    def heard(self, sent_ms: int) -> None:
        """A command of the platform bears this stamp: it is that late, or later."""
        if RELEASED_MS <= sent_ms < RELEASED_MS + LIFETIME_MS:
            self._forward(sent_ms - _mono_ms())

    def recall(self, known: KnownTime | None) -> None:
        """What an earlier life of the agent knew: still good, if the kernel has not started anew since."""
        if known is None:
            return
        self._is_new_boot = known.boot != self._boot
        if not self._is_new_boot and known.ahead_ms is not None:
            self._forward(known.ahead_ms)

    def has_just_booted(self) -> bool:
        """Whether the board was started anew a moment ago, as after a power cut: not where only the agent was, nor
        where no earlier life of it is known."""
        return self._is_new_boot and _mono_ms() < JUST_MS

    def _forward(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms if self._ahead_ms is None else max(self._ahead_ms, ahead_ms)


def boot_id() -> str:
    """The kernel's name for its present run: within one the monotonic clock goes on, whichever process asks. Where it
    can't be read (a /proc without it), each process counts as a run of its own."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"process-{time.monotonic_ns()}"


def _mono_ms() -> int:
    return time.monotonic_ns() // NS_PER_MS
