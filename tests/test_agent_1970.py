"""The real agent on a board that comes up in 1970: an empty battery, no network time yet."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_helpers import FAST, working
from test_agent_settings import parameters

from agent.protocol.commands import ChargingRecord, Period, SetTariff
from agent.protocol.events import EventCode
from agent.protocol.results import Result, StopReason
from sim.site import Site
from sim.watch import Watch

ACCEPTED, OK = Result.ACCEPTED, Result.OK
DAY_AND_NIGHT = SetTariff("T7", 0, (Period(21600, 79200, 100_000, 50_000), Period(79200, 21600, 40_000, 30_000)))
NEAR_MS = 3000
# Its power cuts are new boots of the board; this machine itself may have been up for less than two minutes.
SETTINGS = {"line": FAST, "broker": "boot_spread_s = 0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), baud=115_200, speedup=20, settings=SETTINGS) as site:
        yield site


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    """The platform has set a tariff with two prices and allowed charging without it, while the clock was right."""
    site.agent_program = ("-m", "agent.cli.main")
    with working(site) as watch:
        watch.until_answered(watch.send(110, DAY_AND_NIGHT), OK)
        watch.until_answered(watch.send(106, parameters(site)), ACCEPTED, OK)
        yield watch


def power_cut(watch: Watch, boot: str = "boot 2") -> None:
    """The Linux board loses its power, and comes up in 1970. The power board keeps its own."""
    site = watch.site
    site.kill_agent()
    (site.folder / "boot_id").write_text(boot, encoding="ascii")
    ntp(site).unlink(missing_ok=True)
    program = Path(__file__).parent / "agent_in_1970.py"
    site.agent_program = (str(program), str(site.folder / "boot_id"), str(ntp(site)))
    site.start_agent()
    watch.until_working()
    assert not watch.status()["clock_trusted"]


def ntp(site: Site) -> Path:
    """While it is there the system's clock is right."""
    return site.folder / "ntp"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def events(watch: Watch, code: EventCode) -> list[int]:
    """When these happened, as the journal has them."""
    return [one["at_ms"] for one in watch.site.records("--type", "event", "--limit", "0") if one["code"] == code]


def bills(watch: Watch) -> list[ChargingRecord]:
    """Those told unasked."""
    return [one.body for one in watch.reports(104) if isinstance(one.body, ChargingRecord)]


def test_a_platform_start_brings_the_time_with_it(watch: Watch) -> None:
    power_cut(watch)
    up_ms = now_ms()
    watch.charge(1, "A1")
    assert (watch.status()["clock_trusted"], watch.status()["clock_estimated"]) == (True, True)
    watch.until(lambda: watch.status()["guns"][0]["session"]["energy_wh"] > 5)
    watch.until_answered(watch.stop(1, "A1"), ACCEPTED, OK)
    over_ms = now_ms()

    bill = watch.site.bill("A1")
    assert abs(bill["end_ms"] - over_ms) < NEAR_MS
    assert up_ms - NEAR_MS < bill["start_ms"] <= bill["end_ms"]
    assert bill["faults"] == []
    # What was stamped before it was known is right by now: when the agent came up, and that it did not know.
    (known_ms,) = events(watch, EventCode.TIME_KNOWN)
    (unknown_ms,) = events(watch, EventCode.TIME_UNKNOWN)
    assert abs(unknown_ms - up_ms) < NEAR_MS + 10_000
    assert unknown_ms <= known_ms


def test_a_kill_in_the_same_boot_forgets_no_time(watch: Watch) -> None:
    power_cut(watch)
    watch.until_answered(watch.send(112, ()), OK)
    watch.restart_killed()
    watch.until_working()
    status = watch.status()
    assert (status["clock_trusted"], status["clock_estimated"]) == (True, True)


def test_a_card_cannot_start_what_cannot_be_priced_until_the_clock_is_set(watch: Watch) -> None:
    power_cut(watch)
    watch.site.board({"do": "plug", "gun": 2})
    watch.until(lambda: watch.status()["guns"][1]["status"] == "plugged")
    watch.site.board({"do": "card", "gun": 2})
    watch.until(lambda: watch.logged("stopped: the time is not known, and tariff T7 has 2 prices"))
    watch.until(lambda: bills(watch))
    assert [one.stop_reason for one in bills(watch)] == [StopReason.OFFLINE_NOT_ALLOWED]

    ntp(watch.site).touch()
    watch.until(lambda: watch.status()["clock_trusted"])
    watch.until(lambda: watch.gun(2)["state"] != "charging")
    watch.site.board({"do": "card", "gun": 2})
    watch.until(lambda: watch.phase(2) == "charging")
    (refused,) = [one for one in watch.site.records("--type", "charging") if one["stop_reason"] == 9]
    assert abs(refused["end_ms"] - now_ms()) < 30_000  # it was stamped since the boot, and is put right


def test_a_charge_goes_on_through_a_cut_into_1970_and_is_billed_to_the_watt_hour(watch: Watch) -> None:
    begun_ms = now_ms()
    watch.charge(1, "B1")
    watch.until(lambda: watch.status()["guns"][0]["session"]["energy_wh"] > 5)
    power_cut(watch)
    assert watch.phase(1) == "charging"
    before_wh = watch.status()["guns"][0]["session"]["energy_wh"]
    watch.until(lambda: watch.status()["guns"][0]["session"]["energy_wh"] > before_wh + 5)
    ntp(watch.site).touch()
    watch.until(lambda: watch.status()["clock_trusted"])
    watch.until_answered(watch.stop(1, "B1"), ACCEPTED, OK)
    over_ms = now_ms()

    bill = watch.site.bill("B1")
    assert bill["meter_end_wh"] == watch.gun(1)["meter_wh"]
    assert bill["energy_wh"] == bill["meter_end_wh"] - bill["meter_start_wh"]
    assert bill["faults"] == []
    assert 0 <= bill["start_ms"] - begun_ms < 10_000
    assert abs(bill["end_ms"] - over_ms) < NEAR_MS
