"""New firmware for the power board, by 113 and 114, over its serial line. Real agent, installer, FTP server, broker."""

from collections.abc import Iterator

import pytest
from update_helpers import ACCEPTED, OK, Upgrades, upgradable

from agent.protocol.results import Result

SIZE = 8192


@pytest.fixture(scope="module")
def upgrades(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrades]:
    with upgradable(tmp_path_factory.mktemp("site")) as upgrades:
        yield upgrades


def test_an_image_that_does_not_start_and_has_no_forerunner_leaves_the_guns_out_of_service(upgrades: Upgrades) -> None:
    """The first image ever: nothing is there to go back to. The next one brings the board back."""
    watch = upgrades.watch
    upgrades.board("2.0.0")
    watch.site.board({"do": "plug", "gun": 1})
    watch.site.board({"do": "firmware_faults", "refuses": ["verify"]})
    text = upgrades.until_over(upgrades.order("R1", "2.0.0"), ACCEPTED, Result.INSTALL_FAILED)
    assert text.startswith("board (unit 1): 5 attempts; receiving; 2048 of 2048 bytes: ")
    assert text.endswith("there is no last good image; the board says: receiving; 2048 of 2048 bytes")
    watch.until(lambda: [gun["status"] for gun in watch.status()["guns"]] == ["updating"] * 2)
    watch.until_answered(watch.start(1, "A1"), Result.BUSY)
    assert watch.site.board({"do": "state"})["state"]["firmware"]["state"] == "receiving"


def test_an_image_is_pushed_and_in_force(upgrades: Upgrades) -> None:
    watch = upgrades.watch
    watch.site.board({"do": "firmware_faults", "refuses": []})
    upgrades.board("2.0.1")
    upgrades.until_over(upgrades.order("R2", "2.0.1"), ACCEPTED, OK)
    assert upgrades.versions() == ("0.1.0", "2.0.1")
    assert upgrades.told("R2") == [2, 3, 1, 4, 6]
    row = upgrades.site.updates()[-1]
    assert [row[name] for name in ("record_id", "kind", "version", "state")] == ["R2", "power-board", "2.0.1", "OK"]
    upgrades.check_nothing_is_left()
    assert len(list((upgrades.firmware / "images").iterdir())) == 1, "to be pushed again, should the next one fail"
    watch.until_answered(watch.start(1, "A2"), ACCEPTED, OK)
    watch.until_answered(watch.stop(1, "A2"), ACCEPTED, OK)
    watch.site.board({"do": "unplug", "gun": 1})


def test_the_last_good_image_comes_back_when_the_new_one_is_another_than_it_says(upgrades: Upgrades) -> None:
    upgrades.board("2.0.2")
    upgrades.site.board({"do": "firmware_faults", "boots_as": "9.9.9"})
    text = upgrades.until_over(upgrades.order("R3", "2.0.2"), ACCEPTED, Result.INSTALL_FAILED)
    assert text == (
        "board (unit 1): activated; but it runs 9.9.9; expected 2.0.2; the last good image is back: it runs 2.0.1"
    )
    assert upgrades.versions() == ("0.1.0", "2.0.1")
    upgrades.check_nothing_is_left()


def test_a_board_that_loses_its_power_between_two_blocks_goes_on_at_its_offset(upgrades: Upgrades) -> None:
    watch = upgrades.watch
    upgrades.board("2.2.0", SIZE)
    erased = len(watch.noted("firmware: erase"))
    line = upgrades.order("R6", "2.2.0")
    watch.until(lambda: watch.site.board({"do": "state"})["state"]["firmware"]["received"] > SIZE // 4, timeout_s=30)
    watch.site.board({"do": "restart"})
    upgrades.until_over(line, ACCEPTED, OK)
    assert upgrades.versions() == ("0.1.0", "2.2.0")
    assert len(watch.noted("firmware: erase")) == erased + 1
    upgrades.check_nothing_is_left()
