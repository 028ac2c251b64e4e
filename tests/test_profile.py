"""The reference profile, read as its manual says: literal addresses and words in, the agent's values out."""

from array import array

import pytest

from agent.pile.board import BoardState, GunReading
from agent.power.profile import BoardStatus, Values, load_profile, order_context
from agent.protocol.results import StopReason

REFERENCE = load_profile("reference")

# The board's last four input registers and the window of gun 1, as they come from 0x003C
LIVE = array(
    "H",
    [
        *(0x0001, 0x5180, 0x0007, 0x0002),  # up 86400 s, watchdog 7 s, clock not set
        *(3, 1, 0b0100_0000_0010, 0, 3805, 805, 0x0000, 0x7780, 57, 0xFFCE),  # charging … 30592 W, 57 %, -5.0 °C
        *(0x0012, 0xD687, 0x0000, 0x04D2, 600, 3600),  # meter 1234567 Wh, 1234 Wh in 600 s, gun up 3600 s
        *(0x4F31, 0x2D37, *[0] * 14),  # order "O1-7"
    ],
)


def live_values() -> Values:
    (block,) = REFERENCE.blocks("live", (1,), largest_gap=10)
    assert (block.function, block.address, block.count) == (4, 0x003C, len(LIVE))
    return block.decode(LIVE)


def test_live_registers_of_board_and_gun_come_in_one_read() -> None:
    values = live_values()
    assert values[0, "uptime"] == 86400
    assert values[1, "power"] == 30592
    assert values[1, "session_energy"] == 1234


def test_a_reading_has_the_cores_own_units() -> None:
    (block,) = REFERENCE.blocks("live", (1,), largest_gap=10)
    assert REFERENCE.reading(1, block.decode(LIVE), at_ms=5000) == GunReading(
        gun=1,
        at_ms=5000,
        state=BoardState.CHARGING,
        plugged=True,
        faults=("over_temperature", "watchdog_expired"),
        stop_reason=StopReason.FAULT,  # what over_temperature stands for
        order="O1-7",
        voltage_dv=3805,
        current_da=805,
        power_w=30592,
        soc_pct=57,
        temperature_dc=-50,
        energy_wh=1234567,
    )


def test_the_boards_own_status() -> None:
    (block,) = REFERENCE.blocks("live", (), largest_gap=10)
    status = REFERENCE.status(block.decode(LIVE[:4]))
    assert status == BoardStatus(uptime_s=86400, watchdog_left_s=7, faults=("clock_not_set",))


def test_patterns_that_mean_invalid_give_none() -> None:
    words = array("H", LIVE)
    words[4 + 4] = words[4 + 5] = words[4 + 8] = 0xFFFF  # voltage, current, SOC
    words[4 + 6] = words[4 + 7] = words[4 + 10] = words[4 + 11] = 0xFFFF  # power, meter: all of both words
    words[4 + 9] = 0x8000  # temperature
    (block,) = REFERENCE.blocks("live", (1,), largest_gap=10)
    reading = REFERENCE.reading(1, block.decode(words), 0)
    assert (reading.voltage_dv, reading.current_da, reading.power_w) == (None, None, None)
    assert (reading.soc_pct, reading.temperature_dc, reading.energy_wh) == (None, None, None)


def test_a_state_the_map_does_not_list_is_a_named_fault() -> None:
    words = array("H", LIVE)
    words[4] = 77
    (block,) = REFERENCE.blocks("live", (1,), largest_gap=10)
    reading = REFERENCE.reading(1, block.decode(words), 0)
    assert reading.state is BoardState.FAULT
    assert reading.faults == ("over_temperature", "watchdog_expired", "state_unknown")


def test_a_stop_cause_the_map_does_not_list_counts_as_a_fault() -> None:
    words = array("H", LIVE)
    words[4 + 3] = 99
    (block,) = REFERENCE.blocks("live", (1,), largest_gap=10)
    assert REFERENCE.reading(1, block.decode(words), 0).stop_reason is StopReason.FAULT


def test_a_raised_bit_without_a_name_is_still_shown() -> None:
    words = array("H", LIVE)
    words[4 + 2] = 0x8001
    (block,) = REFERENCE.blocks("live", (1,), largest_gap=10)
    assert REFERENCE.reading(1, block.decode(words), 0).faults == ("emergency_stop", "bit_15")


@pytest.mark.parametrize(
    ("guns", "reads"),
    [
        ((1, 2), [(0x3C, 68)]),
        ((1, 2, 3), [(0x3C, 100)]),
        ((1, 2, 3, 4), [(0x3C, 116), (0xB0, 16)]),
    ],
)
def test_live_reads_stay_within_what_one_frame_holds(guns: tuple[int, ...], reads: list[tuple[int, int]]) -> None:
    blocks = REFERENCE.blocks("live", guns, largest_gap=10)
    assert [(block.address, block.count) for block in blocks] == reads
    assert max(block.count for block in blocks) <= 125


def test_the_largest_gap_decides_whether_two_guns_share_a_read() -> None:
    apart = REFERENCE.blocks("setting", (1, 2), largest_gap=59, board=False)
    together = REFERENCE.blocks("setting", (1, 2), largest_gap=60, board=False)
    assert [(block.function, block.address, block.count) for block in apart] == [(3, 0x212, 4), (3, 0x252, 4)]
    assert [(block.function, block.address, block.count) for block in together] == [(3, 0x212, 68)]


def test_no_gap_is_bridged_when_it_is_worth_nothing() -> None:
    blocks = REFERENCE.blocks("setting", (1,), largest_gap=0, board=False)
    assert [(block.address, block.count) for block in blocks] == [(0x212, 1), (0x214, 2)]


def test_every_readable_register_is_fetched_once() -> None:
    fetched = [
        (field.gun, field.register.name)
        for group in ("live", "identity", "statistics", "setting", "control")
        for block in REFERENCE.blocks(group, (1, 2), largest_gap=20)
        for field in block.fields
    ]
    board = sum(register.window == "board" and register.access != "w" for register in REFERENCE.registers)
    gun = sum(register.window == "gun" and register.access != "w" for register in REFERENCE.registers)
    assert len(fetched) == len(set(fetched)) == board + 2 * gun


def test_a_start_is_one_frame_with_the_command_last() -> None:
    (write,) = REFERENCE.writes("start", 2, order="O1-7", energy_limit_wh=70_000, current_limit_da=800)
    assert (write.function, write.address, write.read_back) == (16, 0x0240, True)
    assert write.words == (0x4F31, 0x2D37, *[0] * 14, 0x0001, 0x1170, 800, 1)


@pytest.mark.parametrize(
    ("action", "gun", "parameters", "function", "address", "words", "read_back"),
    [
        ("stop", 1, {}, 6, 0x0213, (2,), True),
        ("feed", 0, {"timeout_s": 10}, 6, 0x0000, (10,), False),
        ("reboot_gun", 2, {}, 6, 0x0258, (0xA5A5,), False),
        ("reboot_board", 0, {}, 6, 0x0001, (0xA5A5,), False),
        ("set_current_limit", 1, {"current_limit_da": 325}, 6, 0x0212, (325,), True),
        ("set_mode", 1, {"mode": "cc"}, 6, 0x0214, (2,), True),
        ("set_phases", 1, {"phases": "three"}, 6, 0x0215, (3,), True),
        ("set_clock", 0, {"epoch_s": 0x67890ABC}, 16, 0x0002, (0x6789, 0x0ABC), False),
    ],
)
def test_what_each_action_writes(
    action: str,
    gun: int,
    parameters: dict[str, int | str],
    function: int,
    address: int,
    words: tuple[int, ...],
    read_back: bool,
) -> None:
    (write,) = REFERENCE.writes(action, gun, **parameters)
    assert (write.function, write.address, write.words, write.read_back) == (function, address, words, read_back)


@pytest.mark.parametrize(
    ("action", "parameters", "said"),
    [
        (
            "set_current_limit",
            {"current_limit_da": 2501},
            "gun.current_limit = 2501, expected 60..2500 in counts of 0.1 A",
        ),
        ("set_current_limit", {"current_limit_da": "much"}, "gun.current_limit = 'much', expected a number"),
        ("set_mode", {"mode": "cp"}, "gun.mode = 'cp', expected one of cv, cc"),
        ("set_mode", {}, "set_mode got [], expected ['mode']"),
        ("stop", {"order": "x"}, "stop got ['order'], expected []"),
    ],
)
def test_a_write_that_does_not_fit_says_why(action: str, parameters: dict[str, int | str], said: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        REFERENCE.writes(action, 1, **parameters)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("emergency_stop", 6),
        ("full", 3),
        ("over_temperature", 7),
        ("no_firmware", 7),
        ("command", 13),
        ("gone", None),
    ],
)
def test_stop_reasons_by_fault_and_stop_cause(name: str, reason: int | None) -> None:
    assert REFERENCE.stop_reason(name) == reason


@pytest.mark.parametrize(
    ("order", "stored"),
    [
        ("20260731000000000001", "20260731000000000001"),
        ("A" * 32, "A" * 32),
        ("A" * 33, "#5d873590851b7b00b60490c8e6966b3"),
        ("订单1", "#13be7e62f8e325146f93a7d03b0a777"),
        ("a\tb", "#894891f8b78a9945b0aa07e70d5f71f"),
    ],
)
def test_an_order_the_board_cannot_store_is_known_by_its_hash(order: str, stored: str) -> None:
    assert order_context(order, 32) == stored
    assert REFERENCE.order_context(order) == stored
