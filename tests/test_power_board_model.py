"""The simulated board's registers as its manual describes them, in simulated time and without a wire."""

import zlib

import pytest

from agent.power.profile import load_profile
from sim.board_model import BoardModel, RefusedError

REFERENCE = load_profile("reference")
ORDER, ENERGY_LIMIT, CURRENT_LIMIT, COMMAND, MODE, PHASES, GUN_REBOOT = 0x200, 0x210, 0x212, 0x213, 0x214, 0x215, 0x218
STATE, PLUG, FAULTS, STOP_CAUSE, METER = 0x40, 0x41, 0x42, 0x43, 0x4A
IDLE, PLUGGED, STARTING, CHARGING, STOPPING, ENDED, FAULT, UPDATING = range(8)


class Bench:
    """A board on the bench, with a clock to turn."""

    def __init__(self) -> None:
        self.model = BoardModel(REFERENCE, guns=2)
        self.now_ms = 0

    def pass_s(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
        self.model.advance(self.now_ms)

    def measured(self, address: int, count: int = 1) -> list[int]:
        return self.model.read("input", address, count)

    def kept(self, address: int, count: int = 1) -> list[int]:
        return self.model.read("holding", address, count)

    def write(self, address: int, *words: int) -> None:
        self.model.write(address, words)

    def refusal(self, address: int, *words: int) -> int:
        with pytest.raises(RefusedError) as caught:
            self.write(address, *words)
        return caught.value.code

    def start(self, order: bytes = b"O1", limit_da: int = 800) -> None:
        self.write(ORDER, *start_words(order, limit_da))

    def charge(self) -> None:
        self.model.guns[1].plug(soc_pct=40)
        self.start()
        self.pass_s(5)
        assert self.measured(STATE) == [CHARGING]


def start_words(order: bytes, limit_da: int = 800) -> tuple[int, ...]:
    """order (16 words), energy limit 0, current limit, command 1."""
    data = order.ljust(32, b"\0")
    return (*(int.from_bytes(data[at : at + 2], "big") for at in range(0, 32, 2)), 0, 0, limit_da, 1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_start_in_one_frame_charges_with_its_order_and_reads_back(bench: Bench) -> None:
    bench.charge()
    assert bench.kept(ORDER, 20) == list(start_words(b"O1"))
    assert bench.measured(0x50, 2) == [0x4F31, 0]  # the order in charge
    assert bench.measured(0x45) == [800]
    bench.write(COMMAND, 2)
    bench.pass_s(0.6)
    assert (bench.measured(STATE), bench.measured(STOP_CAUSE), bench.kept(COMMAND)) == ([ENDED], [1], [2])


def test_the_same_start_again_changes_nothing(bench: Bench) -> None:
    bench.charge()
    notes = list(bench.model.notes)
    bench.start()
    bench.pass_s(0.1)
    assert bench.measured(STATE) == [CHARGING]
    assert bench.model.notes == notes


def test_starts_that_are_refused_change_nothing(bench: Bench) -> None:
    unplugged = bench.refusal(ORDER, *start_words(b"O1"))
    bench.model.guns[1].plug()
    too_much = bench.refusal(ORDER, *start_words(b"O1", limit_da=2501))
    bench.model.guns[1].raise_fault("lock")
    faulty = bench.refusal(ORDER, *start_words(b"O1"))
    assert (unplugged, too_much, faulty) == (4, 3, 4)
    assert bench.kept(ORDER, 20) == [0] * 18 + [2500, 0]


def test_another_order_has_to_wait(bench: Bench) -> None:
    bench.charge()
    assert bench.refusal(ORDER, *start_words(b"O2")) == 6
    assert bench.kept(ORDER) == [0x4F31]


@pytest.mark.parametrize("address", [MODE, PHASES])
def test_mode_and_phases_wait_for_the_end_of_the_charge(bench: Bench, address: int) -> None:
    bench.charge()
    assert bench.refusal(address, 1) == 6
    bench.write(COMMAND, 2)
    bench.pass_s(1)
    bench.write(address, 1)
    assert bench.kept(address) == [1]


def test_the_current_limit_takes_effect_while_charging(bench: Bench) -> None:
    bench.charge()
    bench.write(CURRENT_LIMIT, 160)
    bench.pass_s(0.1)
    assert bench.measured(0x45) == [160]


def test_a_stop_when_nothing_charges_is_taken(bench: Bench) -> None:
    bench.write(COMMAND, 2)
    assert bench.measured(STATE) == [IDLE]


@pytest.mark.parametrize(
    ("address", "words", "code"),
    [
        (0x0004, (1,), 2),  # reserved
        (0x0280, (1,), 2),  # gun 3 is not fitted
        (0x0220, (1,), 2),  # read-only
        (0x0210, (1,), 2),  # half of a 32-bit value
        (0x0201, (1,), 2),  # the middle of the order
        (0x0213, (3,), 3),  # no such command
        (0x0212, (59,), 3),
        (0x0000, (601,), 3),
        (0x0001, (1,), 3),  # a restart needs its word
    ],
)
def test_writes_the_map_does_not_allow(bench: Bench, address: int, words: tuple[int, ...], code: int) -> None:
    assert bench.refusal(address, *words) == code


def test_reserved_registers_read_zero_and_others_do_not_exist(bench: Bench) -> None:
    assert bench.kept(0x0216, 4) == [0, 0, 0, 0]  # reserved, reserved, write-only, reserved
    for function, address in (("input", 0x0080), ("holding", 0x00C0), ("holding", 0x0280)):
        with pytest.raises(RefusedError, match="exception 2"):
            bench.model.read(function, address, 1)


def test_a_starved_watchdog_stops_every_gun_until_it_is_fed(bench: Bench) -> None:
    bench.charge()
    bench.write(0x0000, 10)
    assert (bench.kept(0x0000), bench.measured(0x3E)) == ([10], [10])
    bench.pass_s(9)
    bench.write(0x0000, 10)
    bench.pass_s(9)
    assert (bench.measured(STATE), bench.measured(0x3E)) == ([CHARGING], [1])
    bench.pass_s(1)
    bench.pass_s(1)
    assert (bench.measured(STATE), bench.measured(FAULTS), bench.measured(STOP_CAUSE)) == ([FAULT], [1 << 10], [7])
    assert bench.measured(0x3F)[0] & 1 == 1
    assert bench.refusal(ORDER, *start_words(b"O2")) == 4
    bench.write(0x0000, 10)
    assert (bench.measured(STATE), bench.measured(FAULTS), bench.measured(0x3F)[0] & 1) == ([ENDED], [0], 0)


def test_a_watchdog_that_is_disarmed_never_bites(bench: Bench) -> None:
    bench.charge()
    bench.write(0x0000, 5)
    bench.write(0x0000, 0)
    bench.pass_s(60)
    assert bench.measured(STATE) == [CHARGING]


def test_a_restart_of_the_board_is_silent_and_keeps_the_meter(bench: Bench) -> None:
    bench.charge()
    bench.pass_s(60)
    meter = bench.measured(METER, 2)
    bench.write(0x0001, 0xA5A5)
    assert not bench.model.answering
    bench.pass_s(1.4)
    assert not bench.model.answering
    bench.pass_s(0.1)
    assert bench.model.answering
    bench.pass_s(2)
    assert bench.measured(0x3C, 2) == [0, 2]
    assert (bench.measured(STATE), bench.measured(STOP_CAUSE), bench.measured(METER, 2)) == ([ENDED], [9], meter)
    assert (bench.kept(ORDER, 18), bench.kept(CURRENT_LIMIT, 2)) == ([0] * 18, [800, 0])


def test_a_restart_of_one_gun_leaves_the_other_alone(bench: Bench) -> None:
    bench.charge()
    bench.write(GUN_REBOOT + 0x40, 0xA5A5)
    assert (bench.measured(STATE), bench.measured(STATE + 0x20)) == ([CHARGING], [UPDATING])
    assert bench.refusal(COMMAND + 0x40, 2) == 6
    bench.pass_s(1.5)
    assert (bench.measured(STATE), bench.measured(STATE + 0x20), bench.measured(0x6F)) == ([CHARGING], [IDLE], [1])


def test_the_clock_runs_from_when_it_is_set(bench: Bench) -> None:
    assert bench.measured(0x3F) == [0b10]
    bench.write(0x0002, 0x6789, 0x0ABC)
    bench.pass_s(5)
    assert (bench.kept(0x0002, 2), bench.measured(0x3F)) == ([0x6789, 0x0AC1], [0])


def test_measurements_without_a_vehicle_are_invalid(bench: Bench) -> None:
    assert bench.measured(0x48) == [0xFFFF]
    bench.model.guns[1].plug(soc_pct=33)
    assert (bench.measured(PLUG), bench.measured(0x48)) == ([1], [33])


def test_a_negative_temperature_is_twos_complement(bench: Bench) -> None:
    bench.model.guns[1]._temperature = -50.0
    assert bench.measured(0x49) == [0xFFCE]


def test_a_card_starts_without_an_order_and_stops_again(bench: Bench) -> None:
    assert not bench.model.start_locally(1)
    bench.model.guns[1].plug()
    assert bench.model.start_locally(1)
    bench.pass_s(3)
    assert (bench.measured(STATE), bench.measured(0x50, 16)) == ([CHARGING], [0] * 16)
    assert bench.refusal(ORDER, *start_words(b"O1")) == 6
    assert bench.model.start_locally(1)
    bench.pass_s(1)
    assert bench.measured(STATE) == [ENDED]


def test_busy_and_refusing_on_request(bench: Bench) -> None:
    bench.model.refusing = True
    assert bench.measured(STATE) == [IDLE]
    assert bench.refusal(COMMAND, 2) == 4
    bench.model.busy = True
    assert bench.refusal(COMMAND, 2) == 6
    with pytest.raises(RefusedError, match="exception 6"):
        bench.measured(STATE)


# ---- the firmware window

IMAGE = (b"PB-200 1.5.0\0" + bytes(range(256)) * 2)[:300]
FW_STATE, FW_RECEIVED = 0x20, 0x21
FW_SIZE, FW_COMMAND, FW_OFFSET = 0x40, 0x44, 0x48
FW_IDLE, ERASING, RECEIVING, VERIFYING, VERIFIED, FAILED = range(6)


def words_of(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))


def erase(bench: Bench, crc32: int) -> None:
    bench.write(FW_SIZE, *words_of(len(IMAGE).to_bytes(4, "big") + crc32.to_bytes(4, "big")), 1)


def send_block(bench: Bench, offset: int) -> None:
    block = IMAGE[offset : offset + 128]
    bench.write(FW_OFFSET, *words_of(offset.to_bytes(4, "big")), len(block), *words_of(block.ljust(128, b"\xff")))


def test_an_update_from_erase_to_the_new_version(bench: Bench) -> None:
    erase(bench, zlib.crc32(IMAGE))
    assert (bench.measured(FW_STATE), bench.measured(STATE), bench.measured(0x3F)) == ([ERASING], [UPDATING], [0b110])
    bench.pass_s(0.3)
    assert bench.measured(FW_STATE) == [RECEIVING]
    for offset in (0, 128, 128, 256):  # a block sent twice is taken twice
        send_block(bench, offset)
    assert bench.measured(FW_RECEIVED, 2) == [0, 300]
    bench.write(FW_COMMAND, 2)
    assert bench.measured(FW_STATE) == [VERIFYING]
    bench.pass_s(0.2)
    assert bench.measured(FW_STATE) == [VERIFIED]
    bench.write(FW_COMMAND, 3)
    assert not bench.model.answering
    bench.pass_s(1.5)
    assert (bench.measured(0x14, 3), bench.measured(STATE), bench.measured(FW_STATE)) == (
        list(words_of(b"1.5.0\0")), [IDLE], [FW_IDLE],
    )  # fmt: skip


def test_a_wrong_image_is_never_activated(bench: Bench) -> None:
    erase(bench, crc32=1)
    bench.pass_s(0.3)
    for offset in (0, 128, 256):
        send_block(bench, offset)
    bench.write(FW_COMMAND, 2)
    bench.pass_s(0.2)
    assert bench.measured(FW_STATE) == [FAILED]
    assert bench.refusal(FW_COMMAND, 3) == 4
    assert bench.refusal(FW_COMMAND, 4) == 4  # the old image is gone


def test_an_update_survives_a_restart_and_resumes(bench: Bench) -> None:
    erase(bench, zlib.crc32(IMAGE))
    bench.pass_s(0.3)
    send_block(bench, 0)
    bench.model.restart()
    bench.pass_s(1.5)
    assert (bench.measured(FW_STATE), bench.measured(FW_RECEIVED, 2)) == ([RECEIVING], [0, 128])
    send_block(bench, 128)
    with pytest.raises(RefusedError, match="exception 4: block at 512, expected 256"):
        bench.write(FW_OFFSET, 0, 512, 128, *[0] * 64)


def test_no_update_while_a_gun_charges_and_no_charge_during_an_update(bench: Bench) -> None:
    bench.charge()
    assert bench.refusal(FW_SIZE, 0, 300, 0, 1, 1) == 6
    bench.write(COMMAND, 2)
    bench.pass_s(1)
    erase(bench, 1)
    assert bench.refusal(ORDER, *start_words(b"O2")) == 6
    assert not bench.model.start_locally(1)
