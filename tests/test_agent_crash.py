"""kill -9 at any moment, and what the next agent makes of it: a real agent, a real broker, a board on its line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from site_helpers import FAST, working

from agent.protocol.results import Result, StopReason
from sim.site import Site
from sim.watch import Watch

ACCEPTED, OK, DUPLICATE = Result.ACCEPTED, Result.OK, Result.DUPLICATE
WATCHDOG_S = 5


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its board waits longer for the next agent than that may take to start."""
    with site_in(tmp_path_factory.mktemp("site"), watchdog_s=60) as site:
        yield site


def site_in(folder: Path, watchdog_s: int) -> Site:
    return Site(folder, baud=115_200, speedup=2, settings={"line": f"{FAST}\nwatchdog_s = {watchdog_s}"})


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    with working(site) as watch:
        yield watch


@pytest.fixture
def left_alone(tmp_path: Path) -> Iterator[Watch]:
    """At a board that soon ends what nobody watches."""
    with site_in(tmp_path, WATCHDOG_S) as site, working(site) as watch:
        yield watch


def test_the_agent_may_die_at_the_moment_a_start_is_published(watch: Watch) -> None:
    check_start_survives(watch, "A1", lambda line: None)


def test_the_agent_may_die_when_it_has_accepted_a_start(watch: Watch) -> None:
    check_start_survives(watch, "A2", lambda line: watch.until_answered(line, ACCEPTED))


def test_the_agent_may_die_when_the_start_is_on_the_wire(watch: Watch) -> None:
    check_start_survives(watch, "A3", lambda line: watch.until(lambda: watch.requests(b"A3")))


def test_the_agent_may_die_during_the_handshake(watch: Watch) -> None:
    check_start_survives(watch, "A4", lambda line: watch.until(lambda: watch.noted("handshake for A4")))


def test_the_agent_may_die_when_current_begins_to_flow(watch: Watch) -> None:
    check_start_survives(watch, "A5", lambda line: watch.until(lambda: watch.noted("contactor closed")))


def check_start_survives(watch: Watch, order: str, wait_for_moment: Callable[[bytes], None]) -> None:
    watch.site.board({"do": "plug", "gun": 1})
    watch.until(lambda: watch.status()["guns"][0]["status"] == "plugged")
    line = watch.start(1, order)
    wait_for_moment(line)

    watch.restart_killed()

    watch.until_settled(line, ACCEPTED, OK)
    assert (watch.gun(1)["state"], watch.gun(1)["order"]) == ("charging", order)
    assert len(watch.noted("handshake")) == len(watch.noted("contactor closed")) == 1  # it was started once
    duplicates = watch.results(line).count(DUPLICATE)
    watch.site.publish(line)
    watch.until(lambda: watch.results(line).count(DUPLICATE) > duplicates)
    assert watch.replies(line)[-1].first is OK


def test_the_agent_may_die_again_and_again_during_a_start(watch: Watch) -> None:
    watch.site.board({"do": "plug", "gun": 2})
    watch.until(lambda: watch.status()["guns"][1]["status"] == "plugged")
    line = watch.start(2, "B1")
    watch.until_answered(line, ACCEPTED)
    for connected in range(2, 6):
        watch.restart_killed()
        watch.until(lambda connected=connected: len(watch.logged("connected to")) == connected)

    watch.until_settled(line, ACCEPTED, OK)
    assert len(watch.noted("handshake")) == len(watch.noted("contactor closed")) == 1


def test_a_charge_goes_on_while_the_agent_is_dead(watch: Watch) -> None:
    watch.charge(1, "C1")

    watch.restart_killed()
    watch.until_working()

    assert watch.phase(1) == "charging"
    line = watch.stop(1, "C1")
    watch.until_answered(line, ACCEPTED, OK)
    assert watch.replies(line)[-1].body.stop_reason == StopReason.PLATFORM
    assert watch.noted("gun 1: stopping") == ["gun 1: stopping: command"]


def test_a_board_ends_the_charge_when_the_agent_stays_dead_and_the_next_agent_says_so(left_alone: Watch) -> None:
    watch = left_alone
    watch.charge(1, "D1")

    watch.site.kill_agent()
    watch.until(lambda: watch.noted("contactor opened"))
    assert watch.noted(f"watchdog not fed for {WATCHDOG_S} s")
    watch.site.start_agent()

    watch.until(lambda: watch.reports(101))
    (report,) = watch.reports(101)
    assert (report.body.order, report.body.stop_reason) == ("D1", StopReason.DEVICE_SILENT)


def test_the_agent_may_die_between_the_two_replies_of_a_stop(watch: Watch) -> None:
    watch.charge(1, "E1")
    line = watch.stop(1, "E1")
    watch.until_answered(line, ACCEPTED)

    watch.restart_killed()

    watch.until_settled(line, ACCEPTED, OK)
    assert watch.replies(line)[-1].body.stop_reason == StopReason.PLATFORM
    assert watch.noted("gun 1: stopping") == ["gun 1: stopping: command"]
    assert watch.reports(101) == []


def test_a_stop_that_comes_while_the_agent_is_dead_is_carried_out_by_the_next(watch: Watch) -> None:
    watch.charge(1, "F1")
    watch.site.kill_agent()
    line = watch.stop(1, "F1")

    watch.site.start_agent()

    watch.until_answered(line, ACCEPTED, OK)
