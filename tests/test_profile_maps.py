"""Maps unlike the reference one: other units, types and functions, as other makers use them."""

import struct
from pathlib import Path

import pytest

from agent.power.profile import Profile, Value, load_profile
from agent.power.registers import Label, Register
from agent.power.units import factor

# A wallbox whose limit counts whole amperes, whose meter is a float in kWh, and which only knows function 6
WALLBOX = """
name = "box"
maker = "a maker"
model = "a model"
description = "coils, floats and coarse units"
guns = 2

[limits]
write_functions = [5, 6]

[windows]
board.holding = { base = 1000, size = 10 }
gun.holding   = { base = 2000, size = 10, stride = 10 }
gun.input     = { base = 0,    size = 20, stride = 20 }
gun.coil      = { base = 100,  size = 4,  stride = 4 }
gun.discrete  = { base = 200,  size = 4,  stride = 4 }

[board.holding]
watchdog = { at = 0, type = "u16", unit = "ms", access = "rw", group = "control", doc = "" }
reboot   = { at = 1, type = "u16", values = "restart", access = "w", group = "control", doc = "" }

[gun.holding]
current_limit = { at = 0, type = "u16", unit = "1 A", access = "rw", group = "setting", doc = "" }
reboot        = { at = 1, type = "u16", values = "restart", access = "w", group = "control", doc = "" }
energy_limit  = { at = 2, type = "u16", unit = "0.1 kWh", access = "rw", group = "control", doc = "" }

[gun.input]
state  = { at = 0, type = "u16", values = "state", group = "live", doc = "" }
faults = { at = 1, type = "bits", words = 2, bits = "fault", group = "live", doc = "" }
energy = { at = 4, type = "float32", unit = "kWh", group = "live", doc = "" }
power  = { at = 6, type = "s16", unit = "0.1 kW", group = "live", doc = "" }

[gun.coil]
command = { at = 0, type = "flag", values = "command", access = "rw", group = "control", doc = "" }

[gun.discrete]
plug = { at = 0, type = "flag", values = "plug", group = "live", doc = "" }

[values.restart]
restart = { is = 1 }
[values.state]
idle     = { is = 1 }
charging = { is = 3 }
[values.command]
stop  = { is = 0 }
start = { is = 1 }
[values.plug]
plugged   = { is = 0 }
unplugged = { is = 1 }
[bits.fault]
lock  = { bit = 0 }
meter = { bit = 17 }

[actions]
start        = ["current_limit = $current_limit_da", "reboot = 0", "energy_limit = $energy_limit_wh", "command = start"]
stop         = ["command = stop"]
feed         = ["watchdog = $timeout_s"]
reboot_gun   = ["reboot = restart"]
reboot_board = ["reboot = 1"]
"""


@pytest.fixture
def wallbox(tmp_path: Path) -> Profile:
    path = tmp_path / "box.toml"
    path.write_text(WALLBOX, encoding="utf-8")
    return load_profile(path)


def test_each_function_has_its_own_blocks(wallbox: Profile) -> None:
    blocks = wallbox.blocks("live", (1, 2), largest_gap=50)
    assert [(block.function, block.address, block.count) for block in blocks] == [
        (2, 200, 1), (2, 204, 1), (4, 0, 3), (4, 4, 3), (4, 20, 3), (4, 24, 3),
    ]  # fmt: skip  # nothing is bridged: this maker does not say that gaps may be read


def test_values_of_every_shape(wallbox: Profile) -> None:
    flag, numbers, energy = (wallbox.blocks("live", (2,), 0)[index] for index in range(3))
    assert flag.decode([1]) == {(2, "plug"): "unplugged"}
    assert numbers.decode([3, 0x0002, 0x0001]) == {(2, "state"): "charging", (2, "faults"): ("lock", "meter")}
    assert energy.decode([0x449A, 0x5000, 0xFFF6]) == {(2, "energy"): 1_234_500, (2, "power"): -1000}  # 1234.5 kWh


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_is_no_number_is_none(wallbox: Profile, bad: float) -> None:
    energy = wallbox.register("gun", "energy")
    assert energy is not None
    assert energy.decode(struct.unpack(">HH", struct.pack(">f", bad))) is None


def test_without_function_16_every_register_is_a_frame_of_its_own(wallbox: Profile) -> None:
    writes = wallbox.writes("start", 2, order="not kept here", energy_limit_wh=1999, current_limit_da=329)
    assert [(write.function, write.address, write.words) for write in writes] == [
        (6, 2010, (32,)),  # 32.9 A become 32 A: never more than was asked
        (6, 2011, (0,)),
        (6, 2012, (19,)),
        (5, 104, (1,)),
    ]


def test_units_convert_when_writing(wallbox: Profile) -> None:
    (write,) = wallbox.writes("feed", timeout_s=30)
    assert write.words == (30_000,)


def test_what_a_device_cannot_do(wallbox: Profile) -> None:
    assert not wallbox.can("set_clock")
    assert wallbox.order_context("anything") == ""


@pytest.mark.parametrize(
    ("unit", "canonical", "expected"),
    [("0.01 kWh", "Wh", 10), ("kW", "W", 1000), ("0.1 V", "0.1 V", 1), ("mA", "0.1 A", 0.01), ("5 A", "0.1 A", 50)],
)
def test_the_factor_between_two_units_is_exact(unit: str, canonical: str, expected: float) -> None:
    numerator, denominator = factor(unit, canonical)
    assert numerator / denominator == expected


def register(type_: str, words: int, **more: object) -> Register:
    return Register("gun", "x", "input", 0, type_, words, "live", "rw", "", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reg", "words", "value"),
    [
        (register("u16", 1), [0xFFFF], 65535),
        (register("s16", 1), [0xFFFF], -1),
        (register("u32", 2), [0x0001, 0x0002], 65538),
        (register("s32", 2), [0xFFFF, 0xFFFE], -2),
        (register("u64", 4), [0, 1, 0, 0], 1 << 32),
        (register("u16", 1, div=10), [25], 3),  # half up
        (register("u16", 1, div=10), [24], 2),
        (register("s16", 1, div=10), [0xFFE7], -2),  # -2.5
        (register("u16", 1, mul=3, div=2), [5], 8),
        (register("u32", 2, invalid=0xFFFFFFFF), [0xFFFF, 0xFFFF], None),
        (register("u32", 2, invalid=0xFFFFFFFF), [0xFFFF, 0x0000], 0xFFFF0000),
        (register("text", 2), [0x4142, 0x4300], "ABC"),
        (register("text", 2), [0x4142, 0x4344], "ABCD"),
        (register("text", 2), [0xE4BD, 0xA000], "你"),
        (register("text", 1), [0xFF00], "\ufffd"),
        (register("data", 2), [0x0102, 0x0300], b"\x01\x02\x03\x00"),
        (register("u16", 1, values=(Label(1, "one"),)), [1], "one"),
        (register("u16", 1, values=(Label(1, "one"),)), [2], 2),
    ],
)  # fmt: skip
def test_words_to_value(reg: Register, words: list[int], value: Value) -> None:
    assert reg.decode(words) == value


@pytest.mark.parametrize(
    ("reg", "value", "words"),
    [
        (register("u32", 2), 65538, (1, 2)),
        (register("s16", 1), -1, (0xFFFF,)),
        (register("u16", 1, mul=10), 39, (3,)),
        (register("text", 2), "ABC", (0x4142, 0x4300)),
        (register("data", 2), b"\x01", (0x0100, 0)),
        (register("float32", 2, mul=1000), 1500, (0x3FC0, 0)),
    ],
)
def test_value_to_words(reg: Register, value: int | str | bytes, words: tuple[int, ...]) -> None:
    assert reg.encode(value) == words


@pytest.mark.parametrize(
    ("reg", "value"),
    [(register("u16", 1), 65536), (register("u16", 1), -1), (register("text", 1), "ABC"), (register("text", 1), 5)],
)
def test_a_value_that_does_not_fit_is_refused(reg: Register, value: int | str) -> None:
    with pytest.raises(ValueError, match=r"^gun\.x = .*, expected "):
        reg.encode(value)
