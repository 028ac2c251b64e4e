"""A charge whose agent is killed, alone or with the whole pile's power, and what the next agent makes of it.

plan(seed, 20) draws the kills; Trial(site, order, kill).run() carries one out, from plugging in to the bill.
"""

import random
import time
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice, product

from agent.protocol.codec import CHINA_OFFSET_S
from agent.protocol.commands import ChargingRecord, SetTariff
from agent.protocol.results import Result, StopReason
from agent.protocol.rules import DAY_S
from sim.site import Site
from sim.story import dearer_soon
from sim.watch import Watch

DEARER_IN_S = 3
CHARGED_ON_S = 0.5
SETTLE_S = 0.3


class Moment(StrEnum):
    """What the kill is near to, by as many ms as ``OFFSETS_MS`` says."""

    START = "start published"
    CHARGING = "current flows"
    BOUNDARY = "tariff boundary"
    STOP = "stop published"
    STOPPING = "stop accepted"
    ENDED = "contactor opened"


OFFSETS_MS = {
    Moment.START: (0, 1000),  # across the handshake
    Moment.CHARGING: (0, 1500),
    Moment.BOUNDARY: (-300, 300),
    Moment.STOP: (0, 10),
    Moment.STOPPING: (0, 300),
    Moment.ENDED: (0, 200),  # the poll that sees it, its commit, the bill's way to the broker
}
AFTER_A_STOP = (Moment.STOP, Moment.STOPPING, Moment.ENDED)


@dataclass(frozen=True)
class Kill:
    """``with_power``: the power board loses its power too, and with it the order; its meter keeps."""

    moment: Moment
    offset_ms: int
    with_power: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a charge: ``phase`` as the killed agent had it; ``has_resumed``: the next one went on with it."""

    kill: Kill
    phase: str
    has_resumed: bool
    starts: int  # how often the board was told to begin the order
    recovered_ms: float  # from the kill until the next agent is connected and has measured
    bills: tuple[ChargingRecord, ...]  # every different one that reached the platform
    bills_kept: int  # those in the journal
    faults: tuple[str, ...]  # what pile-agent bill finds wrong with it
    metered_wh: int  # by the board, from plugging in to the end

    @property
    def unbilled_wh(self) -> int:
        """Negative where too much was billed."""
        return self.metered_wh - sum(bill.energy_wh for bill in self.bills)

    @property
    def wrong(self) -> list[str]:
        """What must not be, in words."""
        reasons = [bill.stop_reason for bill in self.bills]
        checks = (
            (len(self.bills) != 1, f"{len(self.bills)} bills at the platform"),
            (self.bills_kept != 1, f"{self.bills_kept} bills in the journal"),
            (bool(self.faults), ", ".join(self.faults)),
            (self.unbilled_wh != 0, f"{self.unbilled_wh} Wh not billed"),
            (self.starts > 1 and not self.kill.with_power, f"begun {self.starts} times"),
            (not set(reasons) <= self._reasons, f"ended by {reasons}, expected {set(self._reasons)}"),
        )
        return [words for is_wrong, words in checks if is_wrong]

    @property
    def _reasons(self) -> set[int]:
        """Why it may have ended: by our stop, unless the board lost its power while current flowed."""
        platform, power_lost = StopReason.PLATFORM.value, StopReason.POWER_LOST.value
        if not self.kill.with_power:
            return {platform}
        if self.phase == "charging" and self.kill.moment not in AFTER_A_STOP:
            return {power_lost}
        return {platform, power_lost}


def plan(seed: int, count: int) -> list[Kill]:
    """Instants drawn at random: every moment, with and without the board's power, in turns and in random order."""
    rng = random.Random(seed)
    kinds = list(product(Moment, (False, True)))
    rng.shuffle(kinds)
    return [Kill(moment, rng.randint(*OFFSETS_MS[moment]), cut) for moment, cut in islice(cycle(kinds), count)]


class Trial:
    """One charge at gun 1 of a site whose agent runs, and its kill."""

    def __init__(self, site: Site, order: str, kill: Kill) -> None:
        self._site = site
        self._order = order
        self._kill = kill
        self._watch = Watch(site, kill)

    def run(self) -> Outcome:
        watch = self._watch
        watch.until_working()
        watch.plug(1)
        meter_wh = watch.gun(1)["meter_wh"]
        is_stopped = self._run_up()
        phase = self._phase()
        killed_at = self._kill_agent()
        watch.until_working()
        recovered_ms = (time.monotonic() - killed_at) * 1000
        has_resumed = self._finish(is_stopped)
        metered_wh = watch.gun(1)["meter_wh"] - meter_wh
        self._site.board({"do": "unplug", "gun": 1})
        watch.until(lambda: watch.view(1).get("status") == "idle")
        return Outcome(
            self._kill, phase, has_resumed, len(watch.noted(f"handshake for {self._order}")), recovered_ms,
            tuple(self._bills()), self._bills_kept(), tuple(self._site.bill(self._order)["faults"]), metered_wh,
        )  # fmt: skip

    # ---- up to the kill

    def _run_up(self) -> bool:
        """The charge, up to the instant of the kill; whether its stop was published."""
        watch, moment = self._watch, self._kill.moment
        tariff = dearer_soon(DEARER_IN_S)
        boundary_at = int(time.time()) + _seconds_until(tariff)
        watch.until_answered(watch.send(110, tariff), Result.OK)
        line = watch.start(1, self._order)
        if moment is not Moment.START:
            watch.until_answered(line, Result.ACCEPTED, Result.OK)
        if moment in AFTER_A_STOP:
            watch.wait(CHARGED_ON_S)
            self._stop(moment)
        due_at = boundary_at if moment is Moment.BOUNDARY else time.time()
        watch.wait(due_at + self._kill.offset_ms / 1000 - time.time())
        return moment in AFTER_A_STOP

    def _stop(self, moment: Moment) -> None:
        line = self._watch.stop(1, self._order)
        if moment is Moment.STOPPING:
            self._watch.until(lambda: Result.ACCEPTED in self._watch.results(line))
        if moment is Moment.ENDED:
            self._watch.until(lambda: self._watch.noted("contactor opened"))

    def _kill_agent(self) -> float:
        """When it was killed."""
        self._site.kill_agent()
        killed_at = time.monotonic()
        if self._kill.with_power:
            self._site.board({"do": "restart"})
        self._site.start_agent()
        return killed_at

    # ---- after it

    def _finish(self, is_stopped: bool) -> bool:
        """Until the bill is there, and nothing more to come; whether the charge went on, and had to be stopped."""
        watch = self._watch
        watch.until(lambda: self._bills() or (not is_stopped and self._phase() == "charging"))
        goes_on = not self._bills()
        if goes_on:
            watch.wait(CHARGED_ON_S)
            watch.stop(1, self._order)
            watch.until(self._bills)
        watch.until(lambda: watch.status().get("outbox") == 0)
        watch.wait(SETTLE_S)
        return goes_on

    def _phase(self) -> str:
        session = self._watch.view(1).get("session")
        return session["phase"] if session and session["order"] == self._order else ""

    def _bills(self) -> list[ChargingRecord]:
        """The order's bills at the platform; one that was sent again, for its PUBACK was not kept, counts once."""
        bodies = (one.body for one in self._watch.reports(104))
        return list(
            dict.fromkeys(one for one in bodies if isinstance(one, ChargingRecord) and one.order == self._order)
        )

    def _bills_kept(self) -> int:
        return len(self._site.records("--type", "charging", "--order", self._order))


def _seconds_until(tariff: SetTariff) -> int:
    """Until the tariff's second period begins."""
    local_s = int(time.time()) + CHINA_OFFSET_S
    return (tariff.periods[1].start_s - local_s) % DAY_S
