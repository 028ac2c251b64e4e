"""From a profile's TOML to its parts, with every fault found in one pass.

A part that has a fault is left out and checking goes on, so that a maker sees all of his mistakes at once.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent.power.meanings import (
    ACTION_BY_NAME,
    ACTIONS,
    BY_NAME,
    FIRMWARE_ACTIONS,
    FIRMWARE_REGISTERS,
    FIRMWARE_STATES,
    KIND_TYPES,
    MEANINGS,
    ActionMeaning,
    Meaning,
)
from agent.power.registers import GROUPS, NUMBER_WORDS, READ_FUNCTION, SIZED_TYPES, TYPES, Label, Register
from agent.power.units import factor
from agent.protocol.results import StopReason

_ASSIGNMENT = re.compile(r"\s*([a-z0-9_]+)\s*=\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Window:
    """Where registers stand: the board's own (stride 0), or gun n at base + (n - 1) × stride."""

    base: int
    size: int
    stride: int = 0

    def start(self, gun: int) -> int:
        return self.base + max(gun - 1, 0) * self.stride


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device allows on the wire."""

    max_read_registers: int
    max_write_registers: int
    write_functions: tuple[int, ...]
    min_pause_ms: int
    answer_ms: int
    bridge_gaps: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """One step of an action: a register gets a raw number, or the value of a parameter."""

    register: Register
    raw: int | None
    parameter: str | None


class Faults(list[str]):
    """Every fault found in one file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = file

    def add(self, where: str, text: str) -> None:
        self.append(": ".join(part for part in (self._file, where, text) if part))


class Table:
    """One table of the file. Each key is taken once; ``done`` faults the keys nobody took."""

    def __init__(self, faults: Faults, where: str, content: object) -> None:
        self.faults, self.where = faults, where
        self.sound = True
        self._rest: dict[str, Any] = dict(content) if isinstance(content, Mapping) else {}
        if not isinstance(content, Mapping):
            self.fault(f"{content!r}, expected a table")

    def fault(self, text: str) -> None:
        self.sound = False
        self.faults.add(self.where, text)

    def has(self, key: str) -> bool:
        return key in self._rest

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._rest))  # a copy: taking a key while iterating is the normal use

    def table(self, key: str) -> "Table":
        where = f"{self.where}.{key}" if self.where else key
        return Table(self.faults, where, self._rest.pop(key, {}))

    def take(self, key: str, kind: type, expected: str, default: Any = None) -> Any:
        """``key`` if it is a ``kind`` (a bool is no int). When absent: ``default``, or a fault if that is None."""
        if key not in self._rest:
            if default is None:
                self.fault(f"{key} is missing, expected {expected}")
            return default
        value = self._rest.pop(key)
        if type(value) is kind:
            return value
        self.fault(f"{key} = {value!r}, expected {expected}")
        return default

    def text(self, key: str, default: str | None = None) -> str:
        return str(self.take(key, str, "text", default))

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from ``low`` to ``high``; ``low`` stands in for a faulty one."""
        expected = f"{low}..{high}"
        value = self.take(key, int, expected, default)
        if value is not None and not low <= value <= high:
            self.fault(f"{key} = {value}, expected {expected}")
        return int(value) if value is not None else low

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        expected = f"one of {', '.join(choices)}"
        value = self.take(key, str, expected, default)
        if value is not None and value not in choices:
            self.fault(f"{key} = {value!r}, expected {expected}")
        return str(value) if value in choices else choices[0]

    def numbers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self.take(key, list, "a list of whole numbers", default)
        if value is not None and any(type(number) is not int for number in value):
            self.fault(f"{key} = {value!r}, expected a list of whole numbers")
        return tuple(number for number in value or () if type(number) is int)

    def done(self) -> None:
        for key in self._rest:
            self.fault(f"unknown key {key!r}")
        self._rest = {}


def read_limits(table: Table) -> Limits:
    """[limits]: what fits one frame, and the pace the device needs."""
    limits = Limits(
        max_read_registers=table.whole("max_read_registers", 1, 125, 125),
        max_write_registers=table.whole("max_write_registers", 1, 123, 123),
        write_functions=table.numbers("write_functions", (6, 16)),
        min_pause_ms=table.whole("min_pause_ms", 0, 10_000, 0),
        answer_ms=table.whole("answer_ms", 1, 10_000, 200),
        bridge_gaps=bool(table.take("bridge_gaps", bool, "true or false", False)),
    )
    if not limits.write_functions or not set(limits.write_functions) <= {5, 6, 15, 16}:
        table.fault(f"write_functions = {list(limits.write_functions)}, expected some of 5, 6, 15, 16")
    table.done()
    return limits


def read_windows(table: Table, guns: int) -> dict[tuple[str, str], Window]:
    """[windows]: one for each function that the board and the guns use."""
    windows = {}
    for owner in ("board", "gun"):
        part = table.table(owner)
        for function in READ_FUNCTION:
            if part.has(function):
                windows[owner, function] = _window(part.table(function), owner, guns)
        part.done()
    table.done()
    _check_window_overlaps(table, windows, guns)
    return windows


def _window(table: Table, owner: str, guns: int) -> Window:
    base, size = table.whole("base", 0, 0xFFFF), table.whole("size", 1, 0x10000)
    stride = table.whole("stride", 1, 0x10000) if owner == "gun" else 0
    if stride and size > stride:
        table.fault(f"size = {size:#x} is more than stride = {stride:#x}: the windows of two guns overlap")
    window = Window(base, size, stride)
    end = window.start(guns) + size
    if end > 0x10000:
        table.fault(f"ends at {end:#x}, expected at most 0x10000")
    table.done()
    return window


def _check_window_overlaps(table: Table, windows: Mapping[tuple[str, str], Window], guns: int) -> None:
    for function in READ_FUNCTION:
        board, gun = windows.get(("board", function)), windows.get(("gun", function))
        if board and gun and board.base < gun.start(guns) + gun.size and gun.base < board.base + board.size:
            table.fault(f"board.{function} and gun.{function} overlap")


def read_labels(table: Table, key: str) -> dict[str, tuple[Label, ...]]:
    """[values.*] (key "is") and [bits.*] (key "bit"): named numbers, each used once."""
    return {name: _labels(table.table(name), key) for name in table}


def _labels(table: Table, key: str) -> tuple[Label, ...]:
    labels: dict[int, Label] = {}
    for name in table:
        row = table.table(name)
        reason = row.whole("stop_reason", min(StopReason), max(StopReason)) if row.has("stop_reason") else None
        label = Label(row.whole(key, -0x8000, 0xFFFFFFFF), name, row.text("doc", ""), reason)
        row.done()
        if label.number in labels and row.sound:
            row.fault(f"{key} = {label.number} is taken by {labels[label.number].name!r}, expected another number")
        labels.setdefault(label.number, label)
    if not labels:
        table.fault("is empty, expected at least one name")
    return tuple(labels.values())


class RegisterReader:
    """Reads the register tables of a profile; remembers which label tables were used."""

    def __init__(self, values: Mapping[str, tuple[Label, ...]], bits: Mapping[str, tuple[Label, ...]]) -> None:
        self._labels = {"values": values, "bits": bits}
        self._used: set[tuple[str, str]] = set()
        self.seen: set[tuple[str, str]] = set()  # also the faulty ones: they are present, so not missing as well

    def read(self, table: Table, owner: str, function: str, window: Window) -> list[Register]:
        registers = []
        for name in table:
            row = table.table(name)
            register = self._register(row, owner, function, name, window)
            if row.sound:
                registers.append(register)
        _check_overlaps(table.faults, registers)
        return registers

    def check_unused(self, faults: Faults) -> None:
        for key, tables in self._labels.items():
            for name in tables:
                if (key, name) not in self._used:
                    faults.add(f"{key}.{name}", "no register uses it")

    def _register(self, row: Table, owner: str, function: str, name: str, window: Window) -> Register:
        if (owner, name) in self.seen:
            row.fault("the name stands twice in this window")
        self.seen.add((owner, name))
        type_ = row.choice("type", TYPES)
        unit = row.text("unit", "")
        mul, div = _scale(row, owner, name, unit)
        meaning = BY_NAME.get((owner, name))
        kind = meaning.kind if meaning is not None else ""
        register = Register(
            window=owner,
            name=name,
            function=function,
            offset=row.whole("at", 0, 0xFFFF),
            type=type_,
            words=_words(row, type_),
            group=row.choice("group", GROUPS),
            access=row.choice("access", ("r", "rw", "w")) if function in ("holding", "coil") else "r",
            doc=row.text("doc"),
            unit=unit,
            mul=mul,
            div=div,
            values=self._take_labels(row, "values", kind == "word"),
            bits=self._take_labels(row, "bits", kind == "bits"),
            invalid=row.whole("invalid", 0, (1 << 64) - 1) if row.has("invalid") else None,
            range=_range(row),
            read_back=bool(row.take("read_back", bool, "true or false", True)),
        )
        row.done()
        _check_register(row, register, window)
        return register

    def _take_labels(self, row: Table, key: str, wanted: bool) -> tuple[Label, ...]:
        tables = self._labels[key]
        if row.has(key) != wanted:
            row.fault(
                f"{key} is missing, expected a table [{key}.*]" if wanted else f"{key} is given, expected none here"
            )
        name = row.text(key, "")
        self._used.add((key, name))
        if name and name not in tables:
            row.fault(f"{key} = {name!r}, expected one of the tables [{key}.*]: {', '.join(tables) or 'there is none'}")
        return tables.get(name, ())


def _words(row: Table, type_: str) -> int:
    if type_ in SIZED_TYPES:
        return row.whole("words", 1, 4 if type_ == "bits" else 123, 1 if type_ == "bits" else None)
    return NUMBER_WORDS[type_]


def _range(row: Table) -> tuple[int, int] | None:
    if not row.has("range"):
        return None
    numbers = row.numbers("range")
    if len(numbers) == 2 and numbers[0] <= numbers[1]:
        return numbers[0], numbers[1]
    row.fault(f"range = {list(numbers)}, expected [least, greatest] in counts of the unit")
    return None


def _scale(row: Table, owner: str, name: str, unit: str) -> tuple[int, int]:
    """The factor from the maker's unit to the agent's, and whether the agent knows the name at all."""
    meaning = BY_NAME.get((owner, name))
    if meaning is None:
        known = ", ".join(meaning.name for meaning in MEANINGS if meaning.window == owner)
        row.fault(f"is no register the agent understands, expected one of {known}")
        return 1, 1
    try:
        return factor(unit, meaning.unit)
    except ValueError as error:
        row.fault(f"unit = {unit!r} {error} such as {meaning.unit!r}")
        return 1, 1


def _check_register(row: Table, register: Register, window: Window) -> None:
    end = register.offset + register.words
    if end > window.size:
        row.fault(f"at = {register.offset:#x} ends at {end:#x}, expected at most {window.size:#x}, its window's size")
    meaning = BY_NAME.get((register.window, register.name))
    if meaning is not None:
        _check_meaning(row, register, meaning)
    if (register.type == "flag") != (register.function in ("coil", "discrete")):
        row.fault(
            f"type = {register.type!r} in {register.function}, expected flag for coil and discrete, and only there"
        )
    _check_fit(row, register)


def _check_meaning(row: Table, register: Register, meaning: Meaning) -> None:
    types = KIND_TYPES[meaning.kind]
    if register.type not in types:
        row.fault(f"type = {register.type!r}, expected one of {', '.join(types)}")
    for label in register.values:
        if meaning.words is not None and label.name not in meaning.words:
            row.fault(f"values has {label.name!r}, expected some of {', '.join(meaning.words)}")


def _check_fit(row: Table, register: Register) -> None:
    """Every number the row names must fit the type."""
    low, high = register.limits()
    if register.type in ("float32", "text", "data"):
        return
    for label in register.values:
        if not low <= label.number <= high:
            row.fault(f"value {label.name!r} = {label.number}, expected {low}..{high} for {register.type}")
    for label in register.bits:
        if not 0 <= label.number < 16 * register.words:
            row.fault(f"bit {label.name!r} = {label.number}, expected 0..{16 * register.words - 1}")
    if register.invalid is not None and register.invalid >> 16 * register.words:
        row.fault(f"invalid = {register.invalid:#x}, expected at most {16 * register.words} bits for {register.type}")
    if register.range is not None and not (low <= register.range[0] and register.range[1] <= high):
        row.fault(f"range = {list(register.range)}, expected within {low}..{high} for {register.type}")


def _check_overlaps(faults: Faults, registers: Iterable[Register]) -> None:
    ordered = sorted(registers, key=lambda register: register.offset)
    for first, second in pairwise(ordered):
        if second.offset < first.offset + first.words:
            where = f"{second.window}.{second.function}.{second.name}"
            end = first.offset + first.words
            faults.add(where, f"at = {second.offset:#x} overlaps {first.name!r}, expected {end:#x} or later")


def check_required(faults: Faults, seen: Iterable[tuple[str, str]], actions: Iterable[str]) -> None:
    """What every profile must have."""
    for meaning in MEANINGS:
        if meaning.required and (meaning.window, meaning.name) not in seen:
            faults.add(meaning.window, f"register {meaning.name!r} is missing: {meaning.doc}")
    for action in ACTIONS:
        if action.required and action.name not in actions:
            faults.add("actions", f"{action.name!r} is missing: {action.doc}")


def check_firmware(faults: Faults, registers: Iterable[Register], actions: Iterable[str], limits: Limits) -> None:
    """A firmware window is whole, or there is none: half of one would fail when the old image is gone."""
    window = {register.name: register for register in registers if register.window == "board"}
    begun = [name for name in FIRMWARE_REGISTERS if name in window and name != "fw_version"]
    missing = [name for name in FIRMWARE_REGISTERS if name not in window]
    missing += [name for name in FIRMWARE_ACTIONS if name not in actions]
    if begun and missing:
        faults.add("board", f"the firmware window lacks {', '.join(missing)}, expected all of it or none")
    elif begun:
        _check_update_words(faults, window)
        _check_block(faults, window, limits)


def _check_update_words(faults: Faults, window: Mapping[str, Register]) -> None:
    """What the board says of the update must be readable, so that one that was cut can go on."""
    for name in ("fw_size", "fw_crc32"):
        if "r" not in window[name].access:
            faults.add(f"board.{name}", "access = 'w', expected 'rw': an update that was cut is known by it")
    words = {label.name for label in window["fw_state"].values}
    lacking = [word for word in FIRMWARE_STATES if word not in words]
    if lacking:
        faults.add("board.fw_state", f"values lacks {', '.join(lacking)}")


def _check_block(faults: Faults, window: Mapping[str, Register], limits: Limits) -> None:
    first, length, data = window["fw_offset"], window["fw_length"], window["fw_data"]
    follow = first.offset + first.words == length.offset and length.offset + length.words == data.offset
    if not follow or {first.function, length.function, data.function} != {"holding"}:
        faults.add("board.fw_data", "expected fw_offset, fw_length and fw_data side by side in holding registers")
    words = first.words + length.words + data.words
    if words > limits.max_write_registers or 16 not in limits.write_functions:
        most = limits.max_write_registers if 16 in limits.write_functions else 1
        faults.add("board.fw_data", f"a block is one frame of {words} registers, expected at most {most}")


class ActionReader:
    """Reads [actions]: lists of "register = value" lines."""

    def __init__(self, registers: Iterable[Register], seen: set[tuple[str, str]], limits: Limits) -> None:
        self._registers = {(register.window, register.name): register for register in registers}
        self._seen = seen
        self._limits = limits

    def read(self, table: Table) -> dict[str, tuple[Assignment, ...]]:
        return {name: self._action(table, name) for name in table}

    def _action(self, table: Table, name: str) -> tuple[Assignment, ...]:
        lines = table.take(name, list, 'a list of "register = value" lines')
        action = ACTION_BY_NAME.get(name)
        if action is None:
            table.fault(f"{name!r} is no action, expected one of {', '.join(ACTION_BY_NAME)}")
        if action is None or lines is None:
            return ()
        if not lines:
            table.fault(f"{name} is empty, expected at least one line")
        steps = (self._step(table.faults, action, line) for line in lines)
        return tuple(step for step in steps if step is not None)

    def _step(self, faults: Faults, action: ActionMeaning, line: object) -> Assignment | None:
        where = f"actions.{action.name}"
        match = _ASSIGNMENT.fullmatch(line) if isinstance(line, str) else None
        if match is None:
            faults.add(where, f'{line!r}, expected "register = value"')
            return None
        name, value = match.groups()
        register = self._registers.get((action.window, name))
        if register is None:
            if (action.window, name) not in self._seen:  # a faulty one has been named already
                faults.add(where, f"{line!r}: the {action.window} has no register {name!r}")
            return None
        try:
            self._check_writable(register)
            return _assignment(action, register, value)
        except ValueError as error:
            faults.add(where, f"{line!r}: {error}")
            return None

    def _check_writable(self, register: Register) -> None:
        if "w" not in register.access:
            raise ValueError(f"{register.name} is read-only, expected a register that can be written")
        single, several = (5, 15) if register.function == "coil" else (6, 16)
        usable = {several} if register.words > 1 else {single, several}
        if not usable & set(self._limits.write_functions):
            wanted = " or ".join(str(function) for function in sorted(usable))
            raise ValueError(f"needs function {wanted}, expected it in limits.write_functions")


def _assignment(action: ActionMeaning, register: Register, value: str) -> Assignment:
    if value.startswith("$"):
        if value[1:] not in action.parameters:
            offered = ", ".join(f"${parameter}" for parameter in action.parameters) or "none"
            raise ValueError(f"{value} is no parameter of {action.name}, expected one of {offered}")
        return Assignment(register, None, value[1:])
    raw = _literal(register, value)
    register.encode_raw(raw)
    return Assignment(register, raw, None)


def _literal(register: Register, value: str) -> int:
    for label in register.values:
        if label.name == value:
            return label.number
    try:
        return int(value, 0)
    except ValueError:
        words = [label.name for label in register.values]
        raise ValueError(
            f"{value!r}, expected a number, a $parameter{', or one of ' + ', '.join(words) if words else ''}"
        ) from None
