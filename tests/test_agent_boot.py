"""The real agent after a power cut of the whole street: it does not dial in the same second as all the others."""

from pathlib import Path

import pytest
from site_helpers import FAST, working
from test_agent_settings import parameters

from agent.protocol.results import Result
from sim.site import Site
from sim.watch import Watch

WAITS = "the board has just started: broker"


def after_boot(watch: Watch, boot: str) -> None:
    site = watch.site
    (site.folder / "boot_id").write_text(boot, encoding="ascii")
    site.agent_program = (str(Path(__file__).parent / "agent_after_boot.py"), str(site.folder / "boot_id"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    settings = {"line": FAST, "broker": "boot_spread_s = 600"}
    return Site(tmp_path, baud=115_200, speedup=20, settings=settings)


def test_after_a_boot_it_dials_later_and_charges_meanwhile_but_after_a_kill_at_once(site: Site) -> None:
    with site, working(site) as watch:  # its first life: at once
        watch.until_answered(watch.send(106, parameters(site)), Result.ACCEPTED, Result.OK)

        site.kill_agent()
        after_boot(watch, "boot 2")
        site.start_agent()
        watch.until(lambda: watch.logged(f"{WAITS} 127.0.0.1:{site.broker.port} is dialled in 600.0 s"))
        site.board({"do": "plug", "gun": 1})
        watch.until(lambda: watch.status()["guns"][0]["status"] == "plugged")
        site.board({"do": "card", "gun": 1})
        watch.until(lambda: watch.phase(1) == "charging")
        assert not watch.status()["link"]["connected"]
        assert watch.status()["link"]["counters"]["dials"] == 0

        watch.restart_killed()
        watch.until_working()
        assert watch.phase(1) == "charging"
