"""The serial side at its worst: a port that is missing, held, pulled out or dead silent, and a board that refuses."""

from collections.abc import Iterator

import pytest
import serial
from site_helpers import FAST, working

from agent.protocol.commands import Empty
from agent.protocol.results import Result, StopReason
from sim.site import Site
from sim.watch import Watch

ACCEPTED, OK = Result.ACCEPTED, Result.OK


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(
        tmp_path_factory.mktemp("site"), baud=115_200, speedup=2, settings={"line": f"{FAST}\ntries = 2"}
    ) as site:
        yield site


@pytest.fixture
def watch(site: Site) -> Iterator[Watch]:
    with working(site) as watch:
        yield watch


def test_a_port_that_is_missing_is_used_when_it_appears(watch: Watch) -> None:
    watch.site.stop_agent()
    watch.site.board({"do": "cut"})
    watch.seen.clear()
    watch.site.start_agent()
    watch.until(lambda: watch.status() and watch.status()["link"]["connected"])

    assert watch.status()["lines"][0]["reason"] == f"{watch.site.port}: no such port"
    line = watch.start(1, "A1")
    watch.until_answered(line, Result.DEVICE_SILENT)
    assert watch.replies(line)[0].body == "the power board of gun 1 does not answer"

    watch.site.board({"do": "restore"})
    watch.until_working()
    check_logged_once(watch, f'room=power msg="{watch.site.port}: no such port"')
    watch.charge(1, "A2")


def test_a_port_that_another_process_holds_is_used_when_it_is_free(watch: Watch) -> None:
    watch.site.stop_agent()
    watch.seen.clear()
    with serial.Serial(watch.site.port, exclusive=True):
        watch.site.start_agent()
        busy = f"{watch.site.port}: busy: another process holds it"
        watch.until(lambda: watch.status() and watch.status()["lines"][0]["reason"] == busy)

    watch.until_working()
    check_logged_once(watch, f'room=power msg="{busy}"')


def test_a_port_that_is_pulled_out_during_a_charge(watch: Watch) -> None:
    watch.charge(1, "B1")

    watch.site.board({"do": "cut"})
    watch.until(lambda: watch.status()["lines"][0]["reason"])
    watch.site.board({"do": "restore"})
    watch.until_working()

    assert watch.phase(1) == "charging"
    assert len(watch.logged("open at 115200 baud")) == 2
    watch.until_answered(watch.stop(1, "B1"), ACCEPTED, OK)
    assert watch.noted("gun 1: stopping") == ["gun 1: stopping: command"]


def test_a_board_that_falls_silent_refuses_starts_and_is_said_once(watch: Watch) -> None:
    watch.site.board({"do": "plug", "gun": 1})
    watch.site.board({"do": "silent"})
    watch.until(lambda: watch.logged("the power board of gun 1 does not answer"), timeout_s=15)
    line = watch.start(1, "C1")
    watch.until_answered(line, Result.DEVICE_SILENT)
    failures = device(watch)["failures"]
    watch.until(lambda: device(watch)["failures"] > failures)  # it is asked again, and is as silent as before

    check_logged_once(watch, 'level=error room=power msg="board does not answer')
    check_logged_once(watch, 'room=desk msg="the power board of gun 1 does not answer"')
    assert watch.status()["guns"][0]["status"] == "out_of_service"
    watch.site.board({"do": "silent", "on": False})
    watch.until_working()
    watch.until_answered(watch.start(1, "C2"), ACCEPTED, OK)


def test_a_board_that_falls_silent_during_a_charge_and_comes_back(watch: Watch) -> None:
    watch.charge(1, "D1")

    watch.site.board({"do": "silent"})
    watch.until(lambda: watch.logged("the power board of gun 1 does not answer"), timeout_s=15)
    assert watch.phase(1) == "charging"
    watch.site.board({"do": "silent", "on": False})
    watch.until_working()

    watch.until_answered(watch.stop(1, "D1"), ACCEPTED, OK)


def test_a_stop_of_a_silent_board_says_so_and_is_carried_out_when_it_answers(watch: Watch) -> None:
    watch.charge(1, "E1")
    watch.site.board({"do": "silent"})

    line = watch.stop(1, "E1")
    watch.until_answered(line, ACCEPTED, Result.DEVICE_SILENT)
    watch.site.board({"do": "silent", "on": False})

    watch.until(lambda: watch.reports(101), timeout_s=15)
    assert watch.reports(101)[0].body.stop_reason == StopReason.PLATFORM


def test_a_board_that_refuses_writes(watch: Watch) -> None:
    watch.site.board({"do": "plug", "gun": 1})
    watch.until(lambda: watch.status()["guns"][0]["status"] == "plugged")
    watch.site.board({"do": "refuse"})

    line = watch.start(1, "F1")
    watch.until_answered(line, ACCEPTED, Result.DEVICE_REFUSED)

    assert "exception 4" in watch.replies(line)[-1].body
    watch.site.board({"do": "refuse", "on": False})


def test_a_noisy_line_costs_repetitions_not_commands(watch: Watch) -> None:
    """Half frames, flipped bits, late answers, answers of another unit, noise: tried again, and nobody notices."""
    for spoiling in (
        {"do": "drop", "count": 1},
        {"do": "corrupt", "count": 1},
        {"do": "late", "ms": 400},
        {"do": "other_unit", "unit": 7},
        {"do": "noise", "hex": "00 ff 01 03"},
    ):
        before = device(watch)
        watch.site.board(spoiling)
        watch.until(lambda before=before: device(watch)["retries"] > before["retries"])
        watch.until(lambda before=before: device(watch)["transactions"] > before["transactions"] + 5)
    watch.until_answered(watch.send(112, Empty()), OK)
    watch.charge(2, "G1")
    assert device(watch)["failures"] == 0
    assert watch.logged("does not answer") == []


def device(watch: Watch) -> dict[str, int]:
    found: dict[str, int] = watch.status()["lines"][0]["devices"][0]
    return found


def check_logged_once(watch: Watch, text: str) -> None:
    """It was said in one line, however often it happened."""
    assert len(watch.logged(text)) == 1
