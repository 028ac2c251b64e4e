"""The simulated power board behind its registers: what a read returns, what a write does or is refused with.

Pure: time is an argument, and nothing here knows a frame. Where registers stand is read from the profile; the raw
numbers are packed here, independently of the agent's own decoding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agent.pile.board import StopCause
from agent.power.profile import Profile
from agent.power.registers import Label, Register
from sim.firmware_window import BLOCK_LIMIT, FirmwareWindow
from sim.gun_physics import RESTART_MS, GunPhysics

ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE, DEVICE_BUSY = 2, 3, 4, 6

Raw = int | str | bytes | None  # None: the register's "invalid" pattern


class RefusedError(Exception):
    """The board answers with Modbus exception ``code``."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"exception {code}: {why}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Slot:
    """One register of one gun (0: the board)."""

    gun: int
    register: Register


class BoardModel:
    """A board with ``guns`` guns. ``advance`` lets time pass; ``notes`` collects what happened, in words."""

    def __init__(self, profile: Profile, guns: int, speedup: float = 1.0) -> None:
        self.guns = {number: GunPhysics(meter_wh=1_000_000 * number) for number in range(1, guns + 1)}
        self.firmware = FirmwareWindow()
        self.busy = False  # on request: answers everything with exception 6
        self.refusing = False  # on request: refuses every write with exception 4
        self.silent = False  # on request: answers nothing
        self.notes: list[str] = []
        self._profile = profile
        self._speedup = speedup
        self._fw_version = "1.4.2"
        self._now_ms = 0
        self._started_ms = 0
        self._silent_until_ms = 0
        self._clock_at: tuple[int, int] | None = None  # (clock s, now ms) when it was set
        self._watchdog_s = 0
        self._watchdog_until_ms: int | None = None
        self._watchdog_expired = False
        self._held: dict[tuple[int, str], Raw] = {}
        self._slots = {function: dict(self._find_slots(function)) for function in ("holding", "input")}
        self._lost_ms = 0.0
        for number in self.guns:
            self._held[number, "current_limit"] = 2500

    @property
    def answering(self) -> bool:
        """Whether the board speaks at all; it does not while it restarts."""
        return not self.silent and self._now_ms >= self._silent_until_ms

    def advance(self, now_ms: int) -> None:
        """Let time pass up to ``now_ms``. Guns live ``speedup`` times as fast; watchdog, clock and restart do not."""
        passed = max(0, now_ms - self._now_ms)
        self._now_ms = now_ms
        scaled = passed * self._speedup + self._lost_ms
        self._lost_ms = scaled % 1
        for gun in self.guns.values():
            gun.step(int(scaled))
        self.firmware.step(passed)
        if self._watchdog_until_ms is not None and now_ms >= self._watchdog_until_ms:
            self._expire_watchdog()
        self.collect_notes()

    def collect_notes(self) -> None:
        """Gather the guns' notes into the board's."""
        for number, gun in self.guns.items():
            self.notes.extend(f"gun {number}: {note}" for note in gun.notes)
            gun.notes.clear()

    def check_fault(self, name: str) -> None:
        """``ValueError`` unless the register map has such a fault bit."""
        register = self._profile.register("gun", "faults")
        known = [label.name for label in register.bits] if register is not None else []
        if name not in known:
            raise ValueError(f"fault = {name!r}, expected one of {', '.join(known)}")

    def state(self) -> dict[str, Any]:
        """The board and its guns, in the agent's units, ready for JSON."""
        return {
            "uptime_s": (self._now_ms - self._started_ms) // 1000,
            "answering": self.answering,
            "faults": sorted(self._board_faults()),
            "firmware": {"version": self._fw_version, "state": self.firmware.state, "received": self.firmware.received},
            "guns": [{"gun": number, **_gun_state(gun)} for number, gun in self.guns.items()],
        }

    # ---- on the wire

    def read(self, function: str, address: int, count: int) -> list[int]:
        """``count`` registers of ``holding`` or ``input``. Raises ``RefusedError``."""
        if self.busy:
            raise RefusedError(DEVICE_BUSY, "busy on request")
        words: list[int] = []
        while len(words) < count:
            words += self._words_from(function, address + len(words))
        return words[:count]

    def write(self, address: int, words: Sequence[int]) -> None:
        """Take a whole write or refuse it (``RefusedError``); a refused one changes nothing."""
        if self.busy:
            raise RefusedError(DEVICE_BUSY, "busy on request")
        if self.refusing:
            raise RefusedError(DEVICE_FAILURE, "refusing on request")
        values = dict(self._values_of(address, words))
        for slot, raw in values.items():
            self._check_value(slot, raw)
        by_gun: dict[int, dict[str, Raw]] = {}
        for slot, raw in values.items():
            by_gun.setdefault(slot.gun, {})[slot.register.name] = raw
        for gun, new in by_gun.items():
            self._check(gun, new)
        for gun, new in by_gun.items():
            self._apply(gun, new)
        self.collect_notes()

    # ---- where registers stand

    def _find_slots(self, function: str) -> Iterator[tuple[int, tuple[Slot, int]]]:
        """Every address of ``function`` that holds a register, with that register and which of its words it is."""
        for register in self._profile.registers:
            if register.function == function:
                for gun in (0,) if register.window == "board" else self.guns:
                    start = self._profile.address(register, gun)
                    for index in range(register.words):
                        yield start + index, (Slot(gun, register), index)

    def _in_window(self, function: str, address: int) -> bool:
        windows = self._profile.windows
        board, gun = windows["board", function], windows["gun", function]
        if board.base <= address < board.base + board.size:
            return True
        return any(gun.start(number) <= address < gun.start(number) + gun.size for number in self.guns)

    # ---- reads

    def _words_from(self, function: str, address: int) -> list[int]:
        """The words from ``address`` to the end of the register there; one 0 for a reserved address."""
        if not self._in_window(function, address):
            raise RefusedError(ILLEGAL_ADDRESS, f"no {function} register at {address:#06x}")
        if address not in self._slots[function]:
            return [0]
        slot, index = self._slots[function][address]
        data = _pack(slot.register, self._raw(slot))
        return [int.from_bytes(data[at : at + 2], "big") for at in range(2 * index, len(data), 2)]

    def _raw(self, slot: Slot) -> Raw:
        if slot.register.access == "w":
            return 0
        if slot.register.function == "holding" and (slot.gun, slot.register.name) in self._held:
            return self._held[slot.gun, slot.register.name]
        if slot.gun == 0:
            return self._board_raw(slot.register)
        return self._gun_raw(self.guns[slot.gun], slot.register)

    def _board_raw(self, register: Register) -> Raw:
        left_ms = max(0, (self._watchdog_until_ms or 0) - self._now_ms)
        measured: dict[str, Callable[[], Raw]] = {
            "model": lambda: "PB-200",
            "serial": lambda: "SIM-000001",
            "hw_version": lambda: "B2",
            "fw_version": lambda: self._fw_version,
            "gun_count": lambda: len(self.guns),
            "uptime": lambda: (self._now_ms - self._started_ms) // 1000,
            "watchdog": lambda: self._watchdog_s,
            "watchdog_left": lambda: -(-left_ms // 1000),
            "faults": lambda: _bits(register, self._board_faults()),
            "clock": self._clock,
            "fw_state": lambda: _number(register.values, self.firmware.state),
            "fw_received": lambda: self.firmware.received,
            "fw_block_limit": lambda: BLOCK_LIMIT,
        }
        return measured[register.name]() if register.name in measured else 0

    def _gun_raw(self, gun: GunPhysics, register: Register) -> Raw:
        measured: dict[str, Callable[[], Raw]] = {
            "state": lambda: _number(register.values, "updating" if self.firmware.open else gun.state.value),
            "plug": lambda: _number(register.values, "plugged" if gun.plugged else "unplugged"),
            "faults": lambda: _bits(register, gun.faults),
            "stop_cause": lambda: _number(register.values, gun.stop_cause.value),
            "voltage": lambda: gun.voltage_dv,
            "current": lambda: gun.current_da,
            "power": lambda: gun.power_w,
            "soc": lambda: gun.soc_pct,
            "temperature": lambda: gun.temperature_dc,
            "energy": lambda: gun.meter_wh,
            "session_energy": lambda: gun.session_wh,
            "session_time": lambda: min(gun.session_ms // 1000, 0xFFFF),
            "uptime": lambda: min(gun.uptime_ms // 1000, 0xFFFF),
            "order": lambda: gun.order,
            "mode": lambda: _number(register.values, gun.mode),
            "phases": lambda: _number(register.values, gun.phases),
            "fw_version": lambda: "1.2.0",
        }
        return measured[register.name]() if register.name in measured else 0

    def _board_faults(self) -> set[str]:
        conditions = {
            "watchdog_expired": self._watchdog_expired,
            "clock_not_set": self._clock_at is None,
            "no_firmware": self.firmware.erased,
        }
        return {name for name, raised in conditions.items() if raised}

    def _clock(self) -> int:
        epoch_s, at_ms = self._clock_at or (0, self._started_ms)
        return epoch_s + (self._now_ms - at_ms) // 1000

    # ---- writes: first everything is checked, then everything is done

    def _values_of(self, address: int, words: Sequence[int]) -> Iterator[tuple[Slot, Raw]]:
        """The registers a write covers, each of them whole."""
        at = 0
        while at < len(words):
            slot, index = self._slots["holding"].get(address + at, (None, 0))
            if slot is None or index or "w" not in slot.register.access or at + slot.register.words > len(words):
                raise RefusedError(ILLEGAL_ADDRESS, f"{address + at:#06x} cannot be written")
            yield slot, _unpack(slot.register, words[at : at + slot.register.words])
            at += slot.register.words

    def _check_value(self, slot: Slot, raw: Raw) -> None:
        register = slot.register
        if register.values and raw not in {label.number for label in register.values}:
            raise RefusedError(ILLEGAL_VALUE, f"{register.name} = {raw!r}")
        if register.range and isinstance(raw, int) and not register.range[0] <= raw <= register.range[1]:
            raise RefusedError(ILLEGAL_VALUE, f"{register.name} = {raw}")

    def _check(self, gun: int, new: dict[str, Raw]) -> None:
        if gun:
            self._check_gun(gun, new)
        else:
            self._check_board(new)

    def _apply(self, gun: int, new: dict[str, Raw]) -> None:
        if gun:
            self._apply_gun(gun, new)
        else:
            self._apply_board(new)

    def _check_board(self, new: dict[str, Raw]) -> None:
        charging = any(gun.active for gun in self.guns.values())
        if "fw_command" in new and charging:
            raise RefusedError(DEVICE_BUSY, "firmware command while charging")
        if "fw_data" in new and not {"fw_offset", "fw_length"} <= set(new):
            raise RefusedError(ILLEGAL_VALUE, "a block without offset and length")

    def _check_gun(self, number: int, new: dict[str, Raw]) -> None:
        gun = self.guns[number]
        if self.firmware.open or gun.state.value == "updating":
            raise RefusedError(DEVICE_BUSY, "restarting or updating")
        if {"mode", "phases"} & set(new) and gun.active:
            raise RefusedError(DEVICE_BUSY, "mode or phases while charging")
        if self._word_of(number, "command", new) == "start":
            self._check_start(number, str(new.get("order_context", self._held.get((number, "order_context"), ""))))

    def _check_start(self, number: int, order: str) -> None:
        gun = self.guns[number]
        if gun.active and not self._already_runs(gun, order):
            raise RefusedError(DEVICE_BUSY, f"start of {order!r} while {gun.order!r} charges")
        if not gun.plugged or gun.faults or self._watchdog_expired:
            raise RefusedError(DEVICE_FAILURE, "start without plug, with a fault or with the watchdog expired")

    def _already_runs(self, gun: GunPhysics, order: str) -> bool:
        return gun.state.value in ("starting", "charging") and gun.order == order != ""

    def _apply_board(self, new: dict[str, Raw]) -> None:
        if "fw_command" in new:
            self._firmware_step(self._word_of(0, "fw_command", new), new)
        if "fw_data" in new:
            self._firmware_block(new)
        self._held.update({(0, name): raw for name, raw in new.items() if name.startswith("fw_")})
        if "watchdog" in new:
            self._feed(_int(new["watchdog"]))
        if "clock" in new:
            self._clock_at = (_int(new["clock"]), self._now_ms)
        if "reboot" in new:
            self.restart()

    def _apply_gun(self, number: int, new: dict[str, Raw]) -> None:
        gun = self.guns[number]
        self._held.update(
            {(number, name): raw for name, raw in new.items() if name not in ("reboot", "mode", "phases")}
        )
        gun.mode = self._word_of(number, "mode", new) or gun.mode
        gun.phases = self._word_of(number, "phases", new) or gun.phases
        gun.current_limit_da = _int(self._held[number, "current_limit"])
        command = self._word_of(number, "command", new)
        if command == "start" and not gun.active:
            order = str(self._held.get((number, "order_context"), ""))
            gun.start(order, _int(self._held.get((number, "energy_limit"), 0)), gun.current_limit_da)
        if command == "stop":
            gun.stop(StopCause.COMMAND)
        if "reboot" in new:
            self._forget(number)
            gun.restart()

    def _word_of(self, gun: int, name: str, new: dict[str, Raw]) -> str | None:
        """The word that a write gives to an enumeration, if the write has it."""
        register = self._profile.register("gun" if gun else "board", name)
        if register is None or name not in new:
            return None
        return next(label.name for label in register.values if label.number == new[name])

    # ---- what the board does

    def start_locally(self, number: int) -> bool:
        """Card or button: start without an order, with the limit set last; stop what runs. False: refused."""
        gun = self.guns[number]
        if gun.active:
            gun.stop(StopCause.COMMAND)
        elif not gun.plugged or gun.faults or self._watchdog_expired or self.firmware.open:
            return False
        else:
            gun.start("", 0, _int(self._held[number, "current_limit"]))
        self.collect_notes()
        return True

    def restart(self) -> None:
        """The controller restarts: every gun with it; no answer meanwhile."""
        self.notes.append("board restarting")
        for number, gun in self.guns.items():
            self._forget(number)
            gun.restart()
        self.firmware.restart()
        self._watchdog_s, self._watchdog_until_ms, self._watchdog_expired = 0, None, False
        self._silent_until_ms = self._started_ms = self._now_ms + RESTART_MS

    def _forget(self, number: int) -> None:
        for name in ("order_context", "energy_limit", "command"):
            self._held.pop((number, name), None)

    def _feed(self, seconds: int) -> None:
        self._watchdog_s = seconds
        self._watchdog_until_ms = self._now_ms + 1000 * seconds if seconds else None
        if self._watchdog_expired:
            self._watchdog_expired = False
            for gun in self.guns.values():
                gun.clear_fault("watchdog_expired")

    def _expire_watchdog(self) -> None:
        self.notes.append(f"watchdog not fed for {self._watchdog_s} s")
        self._watchdog_until_ms = None
        self._watchdog_expired = True
        for gun in self.guns.values():
            if gun.active:
                gun.raise_fault("watchdog_expired")

    def _firmware_step(self, command: str | None, new: dict[str, Raw]) -> None:
        size, crc32 = (_int(new.get(name, self._held.get((0, name)))) for name in ("fw_size", "fw_crc32"))
        if command == "activate":
            version = self.firmware.activate()
            if version is None:
                raise RefusedError(DEVICE_FAILURE, "no verified image")
            self._fw_version = version
            self.restart()
            return
        steps = {"erase": lambda: self.firmware.erase(size, crc32), "verify": self.firmware.verify}
        if not steps.get(str(command), self.firmware.abort)():
            raise RefusedError(DEVICE_FAILURE, f"{command} while {self.firmware.state}")
        self.notes.append(f"firmware: {command}")

    def _firmware_block(self, new: dict[str, Raw]) -> None:
        data = new["fw_data"]
        assert isinstance(data, bytes)  # the map's type "data"
        if not self.firmware.block(_int(new["fw_offset"]), data[: _int(new["fw_length"])]):
            raise RefusedError(DEVICE_FAILURE, f"block at {_int(new['fw_offset'])}, expected {self.firmware.received}")


def _gun_state(gun: GunPhysics) -> dict[str, Any]:
    return {
        "state": gun.state.value,
        "plugged": gun.plugged,
        "contactor": gun.contactor_closed,
        "faults": sorted(gun.faults),
        "stop_cause": gun.stop_cause.value,
        "order": gun.order,
        "voltage_dv": gun.voltage_dv,
        "current_da": gun.current_da,
        "power_w": gun.power_w,
        "soc_pct": gun.soc_pct,
        "temperature_dc": gun.temperature_dc,
        "meter_wh": gun.meter_wh,
        "session_wh": gun.session_wh,
        "current_limit_da": gun.current_limit_da,
        "mode": gun.mode,
        "phases": gun.phases,
    }


def _pack(register: Register, raw: Raw) -> bytes:
    size = 2 * register.words
    if raw is None:
        raw = register.invalid or 0
    if isinstance(raw, int):
        return raw.to_bytes(size, "big", signed=raw < 0)
    data = raw.encode("utf-8") if isinstance(raw, str) else raw
    return data[:size].ljust(size, b"\0")


def _unpack(register: Register, words: Sequence[int]) -> Raw:
    data = b"".join(word.to_bytes(2, "big") for word in words)
    if register.type == "text":
        return data.split(b"\0", 1)[0].decode("utf-8", "replace")
    return data if register.type == "data" else int.from_bytes(data, "big")


def _int(raw: Raw) -> int:
    return raw if isinstance(raw, int) else 0


def _number(labels: Sequence[Label], word: str) -> int:
    return next(label.number for label in labels if label.name == word)


def _bits(register: Register, raised: set[str]) -> int:
    return sum(1 << label.number for label in register.bits if label.name in raised)
