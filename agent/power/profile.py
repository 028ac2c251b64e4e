"""Device profiles: the register map of one family of power boards, as data.

A profile says where each register stands, what its numbers mean, and what the agent writes for each of its actions.
The bus asks it for merged reads (``blocks``) and for writes (``writes``); what the reads return becomes the core's own
types (``reading``, ``status``, ``versions``). It does no input or output beyond loading its file.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.pile.board import BoardState, GunReading, StopCause, order_context
from agent.power.blocks import Block, Field, Values, merge
from agent.power.meanings import ACTION_BY_NAME
from agent.power.profile_check import (
    ActionReader,
    Assignment,
    Faults,
    Limits,
    RegisterReader,
    Table,
    Window,
    check_firmware,
    check_required,
    read_labels,
    read_limits,
    read_windows,
)
from agent.power.registers import READ_FUNCTION, Register, Value
from agent.protocol.results import StopReason

__all__ = [
    "Block",
    "BoardStatus",
    "Profile",
    "ProfileError",
    "Register",
    "Value",
    "Values",
    "Write",
    "load_profile",
    "order_context",
]

PROFILES = Path(__file__).parent / "profiles"
_CAUSES = {cause.value for cause in StopCause}
_STATES = {state.value for state in BoardState}
STATE_UNKNOWN = "state_unknown"  # the fault of a gun whose state register has a number the map does not list


class ProfileError(Exception):
    """A profile that cannot be used. ``faults``: every reason, each naming file, place, value and what was expected."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


@dataclass(frozen=True, slots=True)
class Write:
    """One write frame: Modbus function 5, 6, 15 or 16, wire address, registers (or bits). ``read_back`` says whether
    reading the same addresses must give the same words."""

    function: int
    address: int
    words: tuple[int, ...]
    read_back: bool
    read_function: int  # 1 or 3: how to read it back


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """The board's own condition; ``None`` where the device has no such register."""

    uptime_s: int | None = None
    watchdog_left_s: int | None = None
    faults: tuple[str, ...] = ()
    gun_count: int | None = None
    clock_s: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One device family's map, checked. Gun numbers count from 1; gun 0 is the board itself."""

    name: str
    maker: str
    model: str
    description: str
    guns: int  # the most guns one board may have
    limits: Limits
    windows: Mapping[tuple[str, str], Window]  # by (board | gun, function)
    registers: tuple[Register, ...]
    actions: Mapping[str, tuple[Assignment, ...]]

    def register(self, window: str, name: str) -> Register | None:
        """The register ``name`` of the ``"board"`` or of a ``"gun"``, if the device has it."""
        return next((reg for reg in self.registers if reg.window == window and reg.name == name), None)

    def address(self, register: Register, gun: int = 0) -> int:
        """Wire address of ``register`` for ``gun``."""
        return self.windows[register.window, register.function].start(gun) + register.offset

    def range_of(self, window: str, name: str) -> tuple[int, int] | None:
        """Least and greatest number that the register can be given, in the agent's unit, if the device has it."""
        register = self.register(window, name)
        if register is None:
            return None
        low, high = register.range or register.limits()
        return -(-low * register.mul // register.div), high * register.mul // register.div

    def blocks(self, group: str, guns: Iterable[int], largest_gap: int, *, board: bool = True) -> tuple[Block, ...]:
        """The reads that fetch every readable register of ``group`` (live, identity, …), of ``guns`` and of the board.

        ``largest_gap`` is the number of unused registers worth reading along to save a frame: what a frame costs on
        the wire (both headers and checksums, two silences, the device's thinking time) in registers of two characters.
        """
        fields = self._fields(group, (*((0,) if board else ()), *guns))
        return merge(fields, largest_gap if self.limits.bridge_gaps else 0, self.limits.max_read_registers)

    def board_blocks(self, names: Iterable[str], largest_gap: int) -> tuple[Block, ...]:
        """The reads that fetch those registers of the board, as far as it has them; ``largest_gap``: see ``blocks``."""
        registers = (self.register("board", name) for name in names)
        fields = [Field(0, self.address(register), register) for register in registers if register is not None]
        return merge(fields, largest_gap if self.limits.bridge_gaps else 0, self.limits.max_read_registers)

    @property
    def has_firmware_window(self) -> bool:
        """The device's firmware can be updated. Then it has all of ``FIRMWARE_REGISTERS`` and ``FIRMWARE_ACTIONS``."""
        return self.register("board", "fw_data") is not None

    def writes(self, action: str, gun: int = 0, **parameters: int | str) -> tuple[Write, ...]:
        """The frames that carry out ``action``, in order; neighbouring registers share one.

        ``KeyError`` for an action the device does not have (ask ``can``); ``ValueError`` names a parameter that is
        missing, unknown or does not fit its register. Numbers are in the agent's units, words as in ``meanings``.
        """
        offered = ACTION_BY_NAME[action].parameters
        if set(parameters) != set(offered):
            raise ValueError(f"{action} got {sorted(parameters)}, expected {sorted(offered)}")
        steps = [(step.register, _words(step, parameters)) for step in self.actions[action]]
        return tuple(self._merge_writes(steps, gun))

    def can(self, action: str) -> bool:
        """Whether the device offers ``action``."""
        return action in self.actions

    def reading(self, gun: int, values: Values, at_ms: int) -> GunReading:
        """One gun's measurements from what its live blocks gave. A register that was not read counts as absent."""
        faults = _names(values.get((gun, "faults")))
        state = values.get((gun, "state"))
        known = state in _STATES
        return GunReading(
            gun=gun,
            at_ms=at_ms,
            state=BoardState(state) if known else BoardState.FAULT,
            plugged=values.get((gun, "plug")) == "plugged",
            faults=faults if known else (*faults, STATE_UNKNOWN),
            stop_reason=self._stop_reason(_word(values.get((gun, "stop_cause"))), faults),
            order=_word(values.get((gun, "order"))),
            voltage_dv=_number(values.get((gun, "voltage"))),
            current_da=_number(values.get((gun, "current"))),
            power_w=_number(values.get((gun, "power"))),
            soc_pct=_number(values.get((gun, "soc"))),
            temperature_dc=_number(values.get((gun, "temperature"))),
            energy_wh=_number(values.get((gun, "energy"))),
        )

    def status(self, values: Values) -> BoardStatus:
        """The board's condition from what its blocks gave."""
        return BoardStatus(
            uptime_s=_number(values.get((0, "uptime"))),
            watchdog_left_s=_number(values.get((0, "watchdog_left"))),
            faults=_names(values.get((0, "faults"))),
            gun_count=_number(values.get((0, "gun_count"))),
            clock_s=_number(values.get((0, "clock"))),
        )

    def stop_reason(self, name: str) -> int | None:
        """The platform's stop reason for a fault's or a stop cause's name; ``None``: the profile gives none."""
        sources = [self.register("gun", "stop_cause"), self.register("gun", "faults"), self.register("board", "faults")]
        reasons = (source.stop_reason(name) for source in sources if source is not None)
        return next((reason for reason in reasons if reason is not None), None)

    def order_context(self, order: str) -> str:
        """What this device stores for ``order``."""
        register = self.register("gun", "order_context")
        return order_context(order, 2 * register.words) if register is not None else ""

    def _stop_reason(self, cause: str | None, faults: Iterable[str]) -> StopReason | None:
        """Why the device ended the last charge by itself: by its stop cause, else by the first fault that says so.
        A cause the map does not list still tells that the device ended it: by a fault, as far as is known."""
        if cause is not None and cause not in _CAUSES:
            return StopReason.FAULT
        reasons = (self.stop_reason(name) for name in ((cause, *faults) if cause else faults))
        return next((StopReason(reason) for reason in reasons if reason is not None), None)

    def _fields(self, group: str, guns: Iterable[int]) -> Iterator[Field]:
        for gun in guns:
            for register in self.registers:
                if register.group == group and register.access != "w" and (register.window == "gun") == (gun > 0):
                    yield Field(gun, self.address(register, gun), register)

    def _merge_writes(self, steps: Sequence[tuple[Register, tuple[int, ...]]], gun: int) -> Iterator[Write]:
        held: Write | None = None
        for register, words in steps:
            write = self._write(register, words, gun)
            joined = self._joined(held, write) if held is not None else None
            if held is not None and joined is None:
                yield held
            held = joined or write
        if held is not None:
            yield held

    def _write(self, register: Register, words: tuple[int, ...], gun: int) -> Write:
        read_back = register.read_back and "r" in register.access
        single, several = (5, 15) if register.function == "coil" else (6, 16)
        function = single if len(words) == 1 and single in self.limits.write_functions else several
        return Write(function, self.address(register, gun), words, read_back, READ_FUNCTION[register.function])

    def _joined(self, first: Write, second: Write) -> Write | None:
        """Both in one frame, if they are neighbours and the device takes that many at once."""
        several = 15 if first.read_function == READ_FUNCTION["coil"] else 16
        words = first.words + second.words
        fits = len(words) <= self.limits.max_write_registers and several in self.limits.write_functions
        adjacent = first.address + len(first.words) == second.address and first.read_function == second.read_function
        if not (fits and adjacent):
            return None
        return Write(several, first.address, words, first.read_back and second.read_back, first.read_function)


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile ``name`` that comes with the agent, or the one in a file (a path has a "/" or ends in ".toml").

    Raises ``ProfileError`` with every fault of the file.
    """
    path = _path(str(name_or_path))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        shipped = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml")))
        raise ProfileError([f"{path}: no such file, expected a path or one of the profiles {shipped}"]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError([f"{path}: {error}"]) from error
    return parse_profile(content, path.name)


def parse_profile(content: Mapping[str, Any], file: str) -> Profile:
    """The profile in ``content``, a parsed TOML file; ``file`` names it in faults. Raises ``ProfileError``."""
    faults = Faults(file)
    top = Table(faults, "", content)
    guns = top.whole("guns", 1, 64)
    limits = read_limits(top.table("limits"))
    windows = read_windows(top.table("windows"), guns)
    reader = RegisterReader(read_labels(top.table("values"), "is"), read_labels(top.table("bits"), "bit"))
    registers = tuple(_read_registers(top, reader, windows))
    reader.check_unused(faults)
    actions = ActionReader(registers, reader.seen, limits).read(top.table("actions"))
    check_required(faults, reader.seen, actions)
    if not faults:
        check_firmware(faults, registers, actions, limits)
    profile = Profile(
        name=top.text("name"),
        maker=top.text("maker"),
        model=top.text("model"),
        description=top.text("description"),
        guns=guns,
        limits=limits,
        windows=windows,
        registers=registers,
        actions=actions,
    )
    top.done()
    if faults:
        raise ProfileError(faults)
    return profile


def _path(name_or_path: str) -> Path:
    is_path = "/" in name_or_path or name_or_path.endswith(".toml")
    return Path(name_or_path) if is_path else PROFILES / f"{name_or_path}.toml"


def _read_registers(
    top: Table, reader: RegisterReader, windows: Mapping[tuple[str, str], Window]
) -> Iterator[Register]:
    for owner in ("board", "gun"):
        part = top.table(owner)
        for function in part:
            if function not in READ_FUNCTION:
                continue  # done() names it
            if (owner, function) not in windows:
                part.fault(f"{function} has no window, expected windows.{owner}.{function}")
            window = windows.get((owner, function), Window(0, 0x10000))
            yield from reader.read(part.table(function), owner, function, window)
        part.done()


def _words(step: Assignment, parameters: Mapping[str, int | str]) -> tuple[int, ...]:
    if step.parameter is not None:
        return step.register.encode(parameters[step.parameter])
    return step.register.encode_raw(step.raw or 0)


def _number(value: Value) -> int | None:
    return value if isinstance(value, int) else None


def _word(value: Value) -> str | None:
    """An enumeration's word or a text; a number the map has no word for is shown as it is."""
    return None if value is None or isinstance(value, (tuple, bytes)) else str(value)


def _names(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()
