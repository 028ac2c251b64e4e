"""One power board on its line: polls, writes that are read back, and what is done about a board that does not answer.

Errors are treated by their consequence. Nothing or rubbish on the line: tried again, a more urgent task in between.
Busy: tried again after a pause. Refused: final. A board that stays silent is asked ever more seldom, so that it costs
the others little; a port that is gone costs nothing, and its line says so.
"""

import logging
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agent.clock import Clock
from agent.pile.actions import FlashBoard, StartGun
from agent.pile.board import BoardState, GunReading
from agent.pile.parameters import BoardSettings
from agent.power.blocks import Block, Field, Values, merge
from agent.power.config import DeviceConfig, LineConfig
from agent.power.errors import (
    BusError,
    DeviceBusy,
    DeviceDeclined,
    DeviceFailed,
    DeviceRefused,
    NotAppliedError,
    PortLost,
)
from agent.power.flashing import BoardWindow, last_good_image, limits_for, new_image
from agent.power.instrument import Instrument
from agent.power.line import PortDownError, SerialLine
from agent.power.profile import BoardStatus, Profile, Write
from agent.power.scheduler import AT_ONCE, Steps
from agent.protocol.results import Result
from firmware_bridge.errors import FirmwareError, InstallFailed
from firmware_bridge.flash import Flashed, flashing

log = logging.getLogger(__name__)
T = TypeVar("T")

BUSY_PAUSE_S = 0.1
SILENT_AFTER = 3  # polls in a row without an answer
PAUSE_FIRST_S = 1.0
PAUSE_MOST_S = 30.0
CLOCK_PERIOD_S = 24 * 3600.0
CLOCK_OFF_MS = 5000  # ours has been set: the board's is not left so far behind
FRAME_CHARACTERS = 13  # a read's own: request of 8, and 5 around the answer's registers
THINKING_MS = 5  # what a board typically takes before it answers
_FLOWING = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)
_SETTINGS = (  # action, its register, what it is called in BoardSettings and among the action's parameters
    ("set_current_limit", "current_limit", "current_limit_da"),
    ("set_mode", "mode", "mode"),
    ("set_phases", "phases", "phases"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job for the board came out, in the platform's terms."""

    result: Result
    text: str = ""


@dataclass(slots=True)
class Tally:
    """What the device has done so far; read by the status page from another thread."""

    transactions: int = 0
    retries: int = 0
    failures: int = 0
    refusals: int = 0
    reason: str = "not asked yet"  # empty while it answers
    uptime_s: int | None = None
    faults: tuple[str, ...] = ()


class Device:
    """One board. All methods run in the line's thread; ``on_poll``, when the board stops answering ``on_silence``, and
    ``on_faults`` with what is wrong with the board itself, at first and whenever it changes, are called there."""

    def __init__(
        self,
        line: SerialLine,
        config: DeviceConfig,
        clock: Clock,
        on_poll: Callable[[list[GunReading]], None],
        on_silence: Callable[[str], None],
        on_faults: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.config = config
        self.tally = Tally()
        self._line = line
        self._on_poll = on_poll
        self._on_silence = on_silence
        self._on_faults = on_faults
        self._faults_polled: tuple[str, ...] | None = None
        self._faults_told: tuple[str, ...] | None = None
        self._clock = clock
        self._instrument: Instrument | None = None
        self._failed_polls = 0
        self._is_silent = False
        self._pause_s = PAUSE_FIRST_S
        self._rests_until = 0.0
        self._clock_due_at = 0.0
        self._clock_set_to_ms = 0  # ahead of the monotonic clock
        self._latest: list[GunReading] = []
        self._is_flashing = False  # the board is left alone but for its update, and for a stop
        self._is_out_of_service = False  # and its guns have been reported so
        self._identity = self.blocks("identity")  # once: a platform that asks for the versions waits

    # ---- tasks ----

    def polling(self) -> Iterator[float]:
        """Read the live registers for ever, each period; ever more seldom while the board is silent."""
        blocks = self.blocks("live")
        while True:
            while self._is_flashing:
                yield time.monotonic() + self._line.config.poll_ms / 1000
            started_at = time.monotonic()
            try:
                values = yield from self._read_all(blocks)
                self._polled(values, started_at)
                yield from self._set_clock_when_due()
                yield started_at + self._line.config.poll_ms / 1000
            except (BusError, PortDownError) as error:
                yield self._poll_failed(error)

    def gathering_statistics(self) -> Iterator[float]:
        """Read what changes slowly. A board that is silent is left to the live polls."""
        blocks = self.blocks("statistics")
        while blocks:
            yield time.monotonic() + self._line.config.statistics_ms / 1000
            if self._failed_polls == 0 and not self._is_flashing:
                try:
                    yield from self._read_all(blocks)
                except (BusError, PortDownError) as error:
                    log.debug("%s: statistics: %s", self.config.name, error)

    def starting(self, job: StartGun) -> Steps[Outcome]:
        """``acting`` for a start: the order as the board keeps it, the energy limit as far as its register counts."""
        profile = self.config.profile
        parameters: dict[str, int | str] = {
            "order": profile.order_context(job.order),
            "energy_limit_wh": min(job.energy_limit_wh or 0, _largest_energy_wh(profile)),
            "current_limit_da": job.current_limit_da,
        }
        return self.acting("start", job.gun, parameters)

    def acting(self, action: str, gun: int, parameters: dict[str, int | str]) -> Steps[Outcome]:
        """Carry out a profile's action and read back what it wrote; ``gun`` is the pile's number, 0 the board. A board
        that is being updated is told nothing but to stop."""
        if self._is_flashing and action != "stop":
            return Outcome(Result.BUSY, f"{self.config.name} (unit {self.config.unit}): its firmware is being updated")
        try:
            for write in self.config.profile.writes(action, self._own_number(gun), **parameters):
                yield from self._write_checked(write)
        except (DeviceRefused, DeviceFailed, DeviceDeclined, DeviceBusy) as error:
            return Outcome(Result.DEVICE_REFUSED, self._about(error))
        except (BusError, PortDownError) as error:
            return Outcome(Result.DEVICE_SILENT, self._about(error))
        except NotAppliedError as error:
            return Outcome(Result.NOT_APPLIED, self._about(error))
        except ValueError as error:  # a value the board's registers can't hold, before anything was sent
            return Outcome(Result.OUT_OF_RANGE, self._about(error))
        return Outcome(Result.OK)

    def setting(self, gun: int, settings: BoardSettings) -> Steps[tuple[BoardSettings, Outcome]]:
        """Write what a gun's controller keeps, as far as the device has it, until one is not taken; also how it was
        before, as far as that can be read."""
        before = BoardSettings(None)
        for action, register, name in _SETTINGS:
            value = getattr(settings, name)
            if value is None or not self.config.profile.can(action):
                continue
            kept = yield from self._reading_kept(gun, register)
            before = replace(before, **{name: kept})
            outcome = yield from self.acting(action, gun, {name: value})
            if outcome.result is not Result.OK:
                return before, outcome
        return before, Outcome(Result.OK)

    def _reading_kept(self, gun: int, name: str) -> Steps[Any]:
        """A gun's holding register; ``None`` where it can't be read, or holds a number that the map has no word for."""
        profile, own = self.config.profile, self._own_number(gun)
        register = profile.register("gun", name)
        if register is None or "r" not in register.access:
            return None
        try:
            values = yield from self._read_all(merge([Field(own, profile.address(register, own), register)], 0, 1))
        except (BusError, PortDownError):
            return None
        value = values[own, name]
        return value if not register.values or isinstance(value, str) else None

    def reading_versions(self) -> Steps[list[tuple[int, str]]]:
        """The firmware version of the board (0) and of each gun by the pile's number; a silent board's are unknown."""
        numbers = {0: 0} | dict(enumerate(self.config.guns, 1))
        try:
            values = yield from self._read_all(self._identity)
        except (BusError, PortDownError):
            return [(0, "unknown")]
        return [
            (numbers[own], str(value) or "unknown")
            for (own, name), value in sorted(values.items())
            if name == "fw_version"
        ]

    def flashing(self, order: FlashBoard, on_progress: Callable[[int], object]) -> Steps[Flashed]:
        """Bring the order's image onto the board, or go on with it where the board stands. Meanwhile it is not polled,
        and once it is out of service its guns are reported as updating."""
        self._is_flashing = True
        try:
            return (yield from self._flashing(order, on_progress))
        except FirmwareError as error:
            return Flashed(error.result, str(error), "")
        finally:
            self._is_flashing = self._is_out_of_service = False

    def _flashing(self, order: FlashBoard, on_progress: Callable[[int], object]) -> Steps[Flashed]:
        profile = self.config.profile
        if not profile.has_firmware_window:
            raise InstallFailed(f"profile {profile.name} has no firmware window")
        for reading in self._latest:
            if reading.state in _FLOWING:
                raise InstallFailed(f"gun {reading.gun} is {reading.state.value}")
        window = BoardWindow(
            profile, order.image.hardware, _largest_gap(self._line.config), self._read_all, self._write_checked,
            self._tried, self._taken_out_of_service,
        )  # fmt: skip
        new = new_image(order.image, window.fitted(order.image.version))
        last_good = last_good_image(order.last_good)
        return (yield from flashing(window, new, last_good, limits_for(window, order.packet_length), on_progress))

    def _taken_out_of_service(self) -> None:
        """Its guns keep their plug and meter as they were polled last."""
        if self._is_out_of_service:
            return
        self._is_out_of_service = True
        at_ms = int(time.monotonic() * 1000)
        known = {reading.gun: reading for reading in self._latest}
        blank = [GunReading(gun, at_ms, BoardState.UPDATING, plugged=False) for gun in self.config.guns]
        self._on_poll([replace(known.get(one.gun, one), state=BoardState.UPDATING, at_ms=at_ms) for one in blank])

    # ---- transactions ----

    def blocks(self, group: str) -> tuple[Block, ...]:
        """The merged reads of a group, gaps bridged where that is cheaper than another frame."""
        own_numbers = range(1, len(self.config.guns) + 1)
        return self.config.profile.blocks(group, own_numbers, _largest_gap(self._line.config))

    def _read_all(self, blocks: Sequence[Block]) -> Steps[Values]:
        values: Values = {}
        for number, block in enumerate(blocks):
            if number:
                yield AT_ONCE
            words = yield from self._tried(lambda instrument, block=block: _read(instrument, block))  # type: ignore[misc]
            values |= block.decode(words)
        return values

    def _write_checked(self, write: Write) -> Steps[None]:
        yield from self._tried(lambda instrument: _write(instrument, write))
        if write.read_back:
            yield AT_ONCE
            back = Block(write.read_function, write.address, len(write.words), ())
            words = yield from self._tried(lambda instrument: _read(instrument, back))
            if tuple(words) != write.words:
                raise NotAppliedError(f"wrote {_hex(write.words)} at 0x{write.address:04X}, read back {_hex(words)}")

    def _tried(self, transaction: Callable[[Instrument], T]) -> Steps[T]:
        """One transaction, tried again by the rules above. A board known to be silent gets one try."""
        tries = 1 if self._is_silent else self._line.config.tries
        while True:
            while time.monotonic() < self._rests_until:
                yield self._rests_until
            tries -= 1
            self.tally.transactions += 1
            try:
                return self._on_port(transaction)
            except (DeviceRefused, DeviceFailed, DeviceDeclined):
                self.tally.refusals += 1
                raise
            except BusError as error:
                if tries <= 0:
                    self.tally.failures += 1
                    raise
                self.tally.retries += 1
                yield time.monotonic() + BUSY_PAUSE_S if isinstance(error, DeviceBusy) else AT_ONCE

    def _on_port(self, transaction: Callable[[Instrument], T]) -> T:
        port = self._line.port()
        if self._instrument is None or self._instrument.serial is not port:
            self._instrument = self._new_instrument(port)
        try:
            return transaction(self._instrument)
        except PortLost as error:
            raise self._line.lost(error.strerror or str(error)) from error
        finally:
            self._rests_until = time.monotonic() + self.config.profile.limits.min_pause_ms / 1000

    def _new_instrument(self, port: object) -> Instrument:
        line, profile = self._line.config, self.config.profile
        answer_ms = line.answer_ms if line.answer_ms is not None else profile.limits.answer_ms
        return Instrument(port, self.config.unit, local_echo=line.local_echo, answer_ms=answer_ms)  # type: ignore[arg-type]

    # ---- how the board is ----

    def _polled(self, values: Values, started_at: float) -> None:
        """The readings are as old as the first of the blocks: a write may have come between two of them."""
        if self._is_flashing:
            return  # a poll that was under way when the update began
        if self.tally.reason:
            log.info("%s on %s answers", self.config.name, self._line.config.port)
        self._failed_polls = 0
        self._is_silent = False
        self._pause_s = PAUSE_FIRST_S
        self._note_status(self.config.profile.status(values))
        profile, at_ms = self.config.profile, int(started_at * 1000)
        self._latest = [
            replace(profile.reading(own, values, at_ms), gun=gun) for own, gun in enumerate(self.config.guns, 1)
        ]
        self._on_poll(self._latest)

    def _note_status(self, status: BoardStatus) -> None:
        before_s = self.tally.uptime_s
        if before_s is not None and status.uptime_s is not None and status.uptime_s < before_s:
            log.warning("%s has restarted", self.config.name)
            self._clock_due_at = 0.0
        for fault in sorted(set(status.faults) - set(self.tally.faults)):
            log.warning("%s reports %s", self.config.name, fault)
        self._tell_faults(status.faults)
        self.tally.reason, self.tally.uptime_s, self.tally.faults = "", status.uptime_s, status.faults

    def _tell_faults(self, faults: tuple[str, ...]) -> None:
        """Those that two polls in a row report: a board that has just started lacks what the agent then gives it."""
        before, self._faults_polled = self._faults_polled, faults
        if before is None:
            return
        lasting = tuple(fault for fault in faults if fault in before)
        if lasting != self._faults_told:
            self._faults_told = lasting
            self._on_faults(lasting)

    def _poll_failed(self, error: BusError | PortDownError) -> float:
        """When to poll again."""
        if self._is_flashing:
            return AT_ONCE
        self._failed_polls += 1
        now = time.monotonic()
        if isinstance(error, PortDownError):
            self._fall_silent(error, logging.DEBUG)  # the line has said it
            return error.retry_at
        if self._failed_polls < SILENT_AFTER:
            return now + self._line.config.poll_ms / 1000
        self._fall_silent(error, logging.ERROR)
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, PAUSE_MOST_S)
        return now + pause_s

    def _fall_silent(self, error: Exception, level: int) -> None:
        self.tally.reason = str(error)
        if not self._is_silent:
            self._is_silent = True
            log.log(level, "%s does not answer: %s", self.config.name, error)
            self._on_silence(str(error))

    def _set_clock_when_due(self) -> Steps[None]:
        """The board's clock follows ours, once that is known; a board that lost its power asks for it by its uptime."""
        now = self._clock.now()
        is_off = abs(now.ahead_ms - self._clock_set_to_ms) > CLOCK_OFF_MS
        is_due = now.trusted and (is_off or time.monotonic() >= self._clock_due_at)
        if not is_due or not self.config.profile.can("set_clock"):
            return
        self._clock_due_at = time.monotonic() + CLOCK_PERIOD_S
        self._clock_set_to_ms = now.ahead_ms
        yield AT_ONCE
        outcome = yield from self.acting("set_clock", 0, {"epoch_s": self._clock.now().wall_ms // 1000})
        if outcome.result is Result.DEVICE_SILENT:
            self._clock_due_at = 0.0  # with the next poll that is answered
        elif outcome.result is not Result.OK:
            log.warning("%s: its clock could not be set: %s", self.config.name, outcome.text)

    def _own_number(self, gun: int) -> int:
        return self.config.guns.index(gun) + 1 if gun else 0

    def _about(self, error: Exception) -> str:
        return f"{self.config.name} (unit {self.config.unit}): {error}"


def _read(instrument: Instrument, block: Block) -> Sequence[int]:
    if block.function in (1, 2):
        return instrument.read_bits(block.address, block.count, block.function)
    return instrument.read_array(block.address, block.count, block.function)


def _write(instrument: Instrument, write: Write) -> None:
    if write.function == 5:
        instrument.write_bit(write.address, write.words[0])
    elif write.function == 6:
        instrument.write_register(write.address, write.words[0], functioncode=6)
    elif write.function == 15:
        instrument.write_bits(write.address, write.words)
    else:
        instrument.write_registers(write.address, array("H", write.words))


def _largest_energy_wh(profile: Profile) -> int:
    """The largest energy limit that the board's register can hold."""
    register = profile.register("gun", "energy_limit")
    if register is None:
        return 0
    _, most = register.range or register.limits()
    return most * register.mul // register.div


def _largest_gap(line: LineConfig) -> int:
    """How many unused registers cost no more than a frame of their own: 2 characters each against the frame's
    characters, two silent intervals and the board's thinking."""
    char_bits = 9 + (line.parity != "N") + line.stop_bits
    char_us = char_bits * 1e6 / line.baud
    quiet_us = 3.5 * char_us if line.baud <= 19200 else 1750.0
    frame_us = FRAME_CHARACTERS * char_us + 2 * quiet_us + THINKING_MS * 1000
    return int(frame_us / (2 * char_us))


def _hex(words: Sequence[int]) -> str:
    return " ".join(f"{word:04x}" for word in words)
