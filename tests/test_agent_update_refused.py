"""What becomes of orders and files that can't be used (113, 114, 111), line by line through the broker; and of servers
that fail."""

from collections.abc import Iterator

import pytest
from update_helpers import ACCEPTED, OK, Upgrades, upgradable

from agent.protocol.commands import Empty, UpdateReport
from agent.protocol.events import EventCode
from agent.protocol.results import Result
from sim.ftp_server import Cut
from sim.maker import Maker

NO_CREDENTIALS, BUSY, DUPLICATE = Result.NO_CREDENTIALS, Result.BUSY, Result.DUPLICATE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrades]:
    with upgradable(tmp_path_factory.mktemp("site"), is_impatient=True) as upgrades:
        upgrades.board("2.0.0")
        yield upgrades


@pytest.fixture
def upgrades(site: Upgrades) -> Iterator[Upgrades]:
    yield site
    site.check_nothing_is_left()
    assert site.versions() == ("0.1.0", "1.4.2")
    faults = site.site.ftp.faults
    faults.cut, faults.replies, faults.bytes_per_s = None, {}, 0


# ---- files ----


def test_what_somebody_else_signed_is_not_authentic(upgrades: Upgrades) -> None:
    Maker().board(upgrades.site.ftp_folder / "forged.bundle", "2.0.0")
    line = upgrades.order("F1", "2.0.0", "/forged.bundle")
    assert "forged" not in upgrades.until_over(line, ACCEPTED, Result.NOT_AUTHENTIC), "the path is not its name here"
    assert upgrades.told("F1") == [2, 3, 55]
    assert upgrades.site.updates()[-1]["state"] == "NOT_AUTHENTIC"


def test_a_file_with_a_flipped_bit_is_not_authentic(upgrades: Upgrades) -> None:
    data = bytearray((upgrades.site.ftp_folder / "2.0.0.bundle").read_bytes())
    data[-700] ^= 1
    (upgrades.site.ftp_folder / "flipped.bundle").write_bytes(data)
    upgrades.until_over(upgrades.order("F2", "2.0.0", "/flipped.bundle"), ACCEPTED, Result.NOT_AUTHENTIC)


def test_another_version_than_the_signed_one_is_refused(upgrades: Upgrades) -> None:
    text = upgrades.until_over(upgrades.order("F3", "2.0.1", "/2.0.0.bundle"), ACCEPTED, Result.VERSION_REFUSED)
    assert text == "ordered is version '2.0.1'; signed is '2.0.0'"


def test_what_is_signed_for_other_hardware_is_refused(upgrades: Upgrades) -> None:
    upgrades.maker.board(upgrades.site.ftp_folder / "other.bundle", "2.0.3", hardware="PB-999")
    text = upgrades.until_over(upgrades.order("F4", "2.0.3", "/other.bundle"), ACCEPTED, Result.WRONG_HARDWARE)
    assert text == "power-board/pb-2.0.3.bin: it is for PB-999; this is PB-200"


# ---- servers ----


def test_a_login_that_the_server_refuses(upgrades: Upgrades) -> None:
    line = upgrades.order("S1", "2.0.0", login=("firmware", "wrong-pa55"))
    text = upgrades.until_over(line, ACCEPTED, Result.FTP_LOGIN_REFUSED)
    assert "wrong-pa55" not in text
    assert not upgrades.watch.logged("wrong-pa55")


def test_a_file_that_is_not_there(upgrades: Upgrades) -> None:
    upgrades.until_over(upgrades.order("S2", "2.0.0", "/no.bundle"), ACCEPTED, Result.FTP_NO_FILE)


def test_a_server_that_nobody_hears_of(upgrades: Upgrades) -> None:
    line = upgrades.order("S3", "2.0.0", address="127.0.0.1:1")
    text = upgrades.until_over(line, ACCEPTED, Result.FTP_UNREACHABLE)
    assert text.startswith("127.0.0.1:1")


def test_a_transfer_that_always_breaks(upgrades: Upgrades) -> None:
    faults = upgrades.site.ftp.faults
    faults.cut, faults.after = Cut.RESET, 0
    text = upgrades.until_over(upgrades.order("S4", "2.0.0"), ACCEPTED, Result.DOWNLOAD_FAILED)
    assert text.endswith("given up after 2 tries in a row without a new byte")


# ---- orders ----


def test_orders_are_answered_as_documented(upgrades: Upgrades) -> None:
    watch = upgrades.watch
    upgrades.site.ftp.faults.bytes_per_s = int((upgrades.site.ftp_folder / "2.0.0.bundle").stat().st_size / 3)

    watch.until_answered(upgrades.package("O1", "2.0.0", "/2.0.0.bundle"), NO_CREDENTIALS)
    watch.until_answered(upgrades.announce("O1", need="2"), OK)

    announced = upgrades.announce("O1", current="0.0.7")
    watch.until_answered(announced, OK)
    watch.until(lambda: event(upgrades, EventCode.VERSION_DIFFERS))
    watch.site.publish(announced)
    watch.until_answered(announced, OK, DUPLICATE)
    assert asked_111(upgrades) == UpdateReport("O1", "0.1.0", 0, 0)
    watch.until_answered(upgrades.announce("O1", need="2"), OK)
    watch.until_answered(upgrades.package("O1", "2.0.0", "/2.0.0.bundle"), NO_CREDENTIALS)

    watch.until_answered(upgrades.announce("O2", address="ftp://:x"), Result.OUT_OF_RANGE)
    watch.until_answered(upgrades.announce("O2"), OK)
    watch.until_answered(upgrades.package("O3", "2.0.0", "/2.0.0.bundle"), NO_CREDENTIALS)
    watch.until_answered(upgrades.package("O2", "../2.0.0", "/2.0.0.bundle"), Result.OUT_OF_RANGE)
    ordered = upgrades.package("O2", "9.9.9", "/2.0.0.bundle")
    watch.until_answered(ordered, ACCEPTED)
    watch.site.publish(ordered)
    watch.until_answered(ordered, ACCEPTED, DUPLICATE)
    again = upgrades.package("O2", "9.9.9", "/2.0.0.bundle")
    watch.until_answered(again, DUPLICATE)
    assert watch.replies(again)[0].first is ACCEPTED
    watch.until_answered(upgrades.package("O3", "2.0.0", "/2.0.0.bundle"), BUSY)
    watch.until_answered(upgrades.announce("O3"), BUSY)
    watch.until_answered(upgrades.announce("O2", need="2"), OK)
    report = asked_111(upgrades)
    assert (report.record_id, report.version, report.state) == ("O2", "9.9.9", 2), "it goes on"

    watch.until_answered(ordered, ACCEPTED, DUPLICATE, Result.VERSION_REFUSED)
    assert asked_111(upgrades) == UpdateReport("O2", "9.9.9", 57, 0)
    watch.until_answered(upgrades.package("O2", "2.0.0", "/2.0.0.bundle"), NO_CREDENTIALS)


def asked_111(upgrades: Upgrades) -> UpdateReport:
    line = upgrades.watch.send(111, Empty())
    upgrades.watch.until_answered(line, OK)
    report: UpdateReport = upgrades.watch.replies(line)[0].body
    return report


def event(upgrades: Upgrades, code: EventCode) -> bool:
    return any(getattr(one.body, "code", None) == code for one in upgrades.watch.reports(104))
