"""The update of a power board as a procedure, without a wire: the board is the simulated bootloader in memory."""

import zlib
from itertools import pairwise

import pytest
from flash_helpers import NEW, OLD, MemoryBoard, flash, image, image_data, killed_after

from firmware_bridge.flash import Flashed, Image, Limits, flashing

BLOCKS = ["block 0", "block 128", "block 256", "block 384", "block 512", "block 640"]
FAULTS = ("request lost", "answer lost", "power before", "power after", "busy", "refused")
SUCCESS = Flashed(0, "", NEW)


def requests_of_an_update() -> int:
    board = MemoryBoard()
    flash(board)
    return len(board.requests)


def steps_of_an_update() -> int:
    return next(steps for steps in range(1000) if killed_after(steps, MemoryBoard()) is not None)


# ---- nothing goes wrong


def test_an_update_from_erase_to_the_new_version() -> None:
    board = MemoryBoard()
    assert flash(board) == SUCCESS
    commands = [request for request in board.requests if request != "status"]
    assert commands == ["erase", *BLOCKS, "verify", "activate"]
    assert board.requests[:3] == ["status", "erase", "status"]
    assert board.version == NEW


@pytest.mark.parametrize(
    ("block_bytes", "offsets"),
    [(1024, [0, 128, 256]), (128, [0, 128, 256]), (100, [0, 100, 200]), (77, [0, 77, 154, 231]), (300, [0, 128, 256])],
)
def test_a_block_is_the_packet_length_as_far_as_the_board_takes_it(block_bytes: int, offsets: list[int]) -> None:
    board = MemoryBoard()
    flash(board, image(size=300), limits=Limits(block_bytes))
    assert [request for request in board.requests if request.startswith("block")] == [f"block {at}" for at in offsets]


def test_one_byte_is_an_image_too() -> None:
    board = MemoryBoard()
    assert flash(board, Image(b"\x55", ""), limits=Limits(1)).version == "unknown"


def test_progress_is_told_from_0_to_100() -> None:
    told: list[int] = []
    for _ in flashing(MemoryBoard(), image(), None, Limits(1024), told.append):
        pass
    assert told == [0, 18, 36, 54, 73, 91, 100]


def test_a_board_that_runs_the_version_is_left_alone() -> None:
    board = MemoryBoard()
    board.version = NEW
    assert flash(board) == SUCCESS
    assert board.requests == ["status"]


def test_a_window_that_holds_another_image_is_erased() -> None:
    board = MemoryBoard()
    killed_after(20, board, image("1.4.9"))
    assert board.firmware.received > 0
    assert flash(board) == SUCCESS
    assert board.requests.count("erase") == 2


def test_the_same_size_with_another_checksum_is_another_image() -> None:
    board = MemoryBoard()
    killed_after(20, board, image("1.4.9"))
    assert (board.size, board.crc32) == (700, zlib.crc32(image_data("1.4.9")))
    assert flash(board) == SUCCESS
    assert bytes(board.firmware._image) == image_data(NEW)


# ---- something goes wrong once, at each request


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_at_any_request_delays_and_changes_nothing(fault: str) -> None:
    requests = requests_of_an_update()
    for number in range(1, requests + 1):
        board = MemoryBoard()
        board.faults[number] = fault
        assert flash(board) == SUCCESS, f"request {number}: {board.requests}"
        assert bytes(board.firmware._image) == image_data(), f"request {number}"


@pytest.mark.parametrize("fault", ["request lost", "answer lost", "busy", "refused"])
def test_a_fault_at_every_third_request_delays_and_changes_nothing(fault: str) -> None:
    for first in (1, 2, 3):
        board = MemoryBoard()
        board.faults = dict.fromkeys(range(first, 1000, 3), fault)
        assert flash(board) == SUCCESS
        assert bytes(board.firmware._image) == image_data()


def test_a_block_is_not_sent_again_from_the_beginning() -> None:
    """After a cut the board is asked how far it is, and goes on there."""
    board = MemoryBoard()
    flash(board)
    fresh = MemoryBoard()
    fresh.faults[board.requests.index("block 384") + 1] = "power after"
    assert flash(fresh) == SUCCESS
    blocks = [request for request in fresh.requests if request.startswith("block")]
    assert blocks == BLOCKS  # its answer was lost, but the board had it: none is sent twice


# ---- the agent is killed, at each step


def test_killed_after_any_step_it_goes_on() -> None:
    for steps in range(steps_of_an_update()):
        board = MemoryBoard()
        assert killed_after(steps, board) is None
        sent = len([request for request in board.requests if request.startswith("block")])
        assert flash(board) == SUCCESS, f"killed after {steps} steps"
        assert bytes(board.firmware._image) == image_data()
        total = [request for request in board.requests if request.startswith("block")]
        assert len(total) == len(BLOCKS), f"{sent} blocks before the kill, {total}"
        assert board.requests.count("erase") == 1


def test_killed_after_every_few_steps_it_still_gets_there() -> None:
    """Whoever is killed before he has sent one block gets nowhere: that takes 4 steps."""
    board = MemoryBoard()
    for _ in range(300):
        flashed = killed_after(5, board)
        if flashed is not None:
            break
    assert flashed == SUCCESS
    assert bytes(board.firmware._image) == image_data()


def test_killed_and_cut_at_the_same_step() -> None:
    for steps in range(steps_of_an_update()):
        board = MemoryBoard()
        killed_after(steps, board)
        board._restart()
        assert flash(board) == SUCCESS, f"killed after {steps} steps"
        assert bytes(board.firmware._image) == image_data()


# ---- it fails for good


def always(fault: str, name: str) -> MemoryBoard:
    """A board that does this to every request of that name."""

    class Spoiled(MemoryBoard):
        def _ask(self, asked, do):  # type: ignore[no-untyped-def]
            if asked.startswith(name):
                self.faults[len(self.requests) + 1] = fault
            return super()._ask(asked, do)

    return Spoiled()


def test_a_board_that_refuses_the_erase_runs_on_as_before() -> None:
    """It refuses while a gun charges."""
    board = always("busy", "erase")
    flashed = flash(board)
    assert flashed == Flashed(59, "5 attempts, runs 1.4.2: erase: exception 6; it runs 1.4.2 as before", OLD)
    assert board.requests.count("erase") == 5
    assert not board.firmware.erased


def test_a_board_that_does_not_answer_is_given_up_in_the_end() -> None:
    board = always("request lost", "status")
    flashed = flash(board)
    text = "no sound answer for 300 s: status: nothing came back; the same order goes on where it stands"
    assert flashed == Flashed(59, text, "")
    assert 300 <= board.now_ms / 1000 < 320


def test_a_board_that_falls_silent_for_good_after_the_erase() -> None:
    board = MemoryBoard()
    board.faults = dict.fromkeys(range(10, 5000), "request lost")
    flashed = flash(board, last_good=image(OLD))
    assert (flashed.result, flashed.version) == (59, "")
    assert "the same order goes on where it stands" in flashed.text
    board.faults.clear()
    assert flash(board) == SUCCESS
    assert board.requests.count("erase") == 1


@pytest.mark.parametrize("name", ["block 256", "verify", "activate"])
@pytest.mark.parametrize("fault", ["refused", "request lost"])
def test_what_fails_for_good_after_the_erase_brings_the_last_good_image_back(name: str, fault: str) -> None:
    board = always(fault, name)
    told = flash(board)
    assert (told.result, told.version) == (59, "")
    assert told.text.startswith("5 attempts, ")
    assert "there is no last good image; the board says: " in told.text

    helped = always(fault, name)
    flashed = flash(helped, last_good=Image(image_data(OLD, 200), ""))
    if name == "block 256":  # which the last good image does not need
        assert (flashed.result, flashed.version) == (59, OLD)
        assert flashed.text.endswith("; the last good image is back: it runs 1.4.2")
        assert helped.version == OLD
    else:
        assert (flashed.result, flashed.version) == (59, "")
        assert "; the last good image failed as well: 5 attempts, " in flashed.text


def test_a_checksum_that_stays_wrong_brings_the_last_good_image_back() -> None:
    board = MemoryBoard()
    board.firmware.faults.flips = 3 * len(BLOCKS)
    flashed = flash(board, last_good=Image(image_data(OLD), ""))
    assert flashed.result == 59
    assert flashed.text.startswith(
        f"sent 3 times, failed, 700 of 700 bytes; its CRC-32 is {zlib.crc32(image_data()):08x}"
    )
    assert flashed.text.endswith("; the last good image is back: it runs 1.4.2")
    assert (board.version, board.requests.count("erase")) == (OLD, 4)


def test_a_checksum_wrong_once_is_sent_again() -> None:
    board = MemoryBoard()
    board.firmware.faults.flips = 1
    assert flash(board) == SUCCESS
    assert board.requests.count("erase") == 2


def test_an_image_that_boots_as_another_version_is_replaced_by_the_last_good_one() -> None:
    board = MemoryBoard()
    board.firmware.faults.boots_as = "0.9.0"
    flashed = flash(board, last_good=Image(image_data(OLD), ""))
    text = "activated, but it runs 0.9.0, expected 1.5.0; the last good image is back: it runs 1.4.2"
    assert flashed == Flashed(59, text, OLD)


def test_an_image_that_boots_as_another_version_stays_when_there_is_no_other() -> None:
    board = MemoryBoard()
    board.firmware.faults.boots_as = "0.9.0"
    text = "activated, but it runs 0.9.0, expected 1.5.0; there is no last good image; the board says: runs 0.9.0"
    assert flash(board) == Flashed(59, text, "0.9.0")


def test_a_board_that_goes_back_by_itself_needs_no_help() -> None:
    board = MemoryBoard()
    board.firmware.faults.boots_as = OLD
    flashed = flash(board, last_good=Image(image_data(OLD), ""))
    assert flashed == Flashed(59, "activated, but it runs 1.4.2, expected 1.5.0; it runs 1.4.2 as before", OLD)
    assert board.requests.count("erase") == 1


class Picky(MemoryBoard):
    """Finds the checksum of the new image wrong, always."""

    def erase(self, size, crc32):  # type: ignore[no-untyped-def]
        yield from super().erase(size, crc32)
        if crc32 == image().crc32:
            self.firmware._crc32 ^= 1


def test_killed_at_any_step_of_a_failure_and_its_recovery_it_ends_the_same() -> None:
    """Which attempt it was the board does not know: the new image gets others, and fails again."""
    last_good = Image(image_data(OLD), "")
    for steps in range(0, 1000, 3):
        board = Picky()
        is_over = killed_after(steps, board, last_good=last_good) is not None
        flashed = flash(board, last_good=last_good)
        assert (flashed.result, flashed.version, board.version) == (59, OLD, OLD)
        if is_over:
            break
    assert steps > 60


# ---- boards that go round in circles end, too


class Circling(MemoryBoard):
    """Loses what it has stored, again and again, at the same byte."""

    def block(self, offset, data):  # type: ignore[no-untyped-def]
        yield from super().block(offset, data)
        if offset == 256:
            self.firmware._image.clear()


class Forgetful(MemoryBoard):
    """Takes the erase and stays as it is."""

    def erase(self, size, crc32):  # type: ignore[no-untyped-def]
        yield from self._ask("erase", lambda: None)


class Eternal(MemoryBoard):
    """Never ends an erase."""

    def _pass(self, ms: int) -> None:
        self.now_ms += ms


@pytest.mark.parametrize(
    ("board", "text"),
    [
        (Circling(), "5 attempts, receiving, 0 of 700 bytes: block 384: exception 4"),
        (Forgetful(), "sent 3 times, runs 1.4.2"),
        (Eternal(), "erasing, 0 of 700 bytes, for 300 s: no end of it"),
    ],
)
def test_a_board_that_gets_nowhere_is_given_up(board: MemoryBoard, text: str) -> None:
    flashed = flash(board)
    assert flashed.result == 59
    assert flashed.text.startswith(text)


def test_a_board_busy_with_us_is_waited_for() -> None:
    board = MemoryBoard()
    board.faults = dict.fromkeys(range(8, 300, 2), "busy")
    assert flash(board) == SUCCESS


def test_blocks_go_out_in_the_order_of_their_offsets() -> None:
    board = MemoryBoard()
    flash(board, image(size=10_000))
    offsets = [int(request.split()[1]) for request in board.requests if request.startswith("block")]
    assert all(later - earlier == 128 for earlier, later in pairwise(offsets))


def test_a_status_reads_like_a_sentence() -> None:
    board = MemoryBoard()
    assert str(board._status()) == "runs 1.4.2"
    killed_after(3, board)
    assert str(board._status()) == "erasing, 0 of 700 bytes"
