"""Upgrades killed on their way, a few of the kills that ``python -m bench.updates`` tries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from site_helpers import FAST

from agent.pile.firmware import Kind, Stage
from sim.maker import Maker
from sim.site import Site
from sim.upgrades import STAGES, Kill, Trial, Victim, damaged_files, plan

KILLS = (
    Kill(Kind.AGENT, Stage.DOWNLOADING, Victim.PILE, 600),
    Kill(Kind.AGENT, Stage.STAGING, Victim.INSTALLER, 500),
    Kill(Kind.AGENT, Stage.TRIAL, Victim.PILE, 0),
    Kill(Kind.AGENT, Stage.WAITING, Victim.AGENT, 100),
    Kill(Kind.POWER_BOARD, Stage.FLASHING, Victim.PILE, 700),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Maker]]:
    maker = Maker()
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, baud=115_200, speedup=2, settings={"line": FAST}, maker=maker) as site:
        site.start_agent()
        yield site, maker


@pytest.mark.parametrize("number", range(len(KILLS)), ids=[f"{one.victim} {one.stage}" for one in KILLS])
def test_the_new_version_runs_whole_and_is_told_whenever_who_is_killed(site: tuple[Site, Maker], number: int) -> None:
    outcome = Trial(*site, number, KILLS[number]).run()
    assert outcome.wrong == ()
    assert (outcome.before != outcome.after, outcome.stage) == (True, KILLS[number].stage)
    assert outcome.was_installing == (KILLS[number].victim is Victim.INSTALLER)


def test_the_seed_draws_the_kills() -> None:
    kills = plan(1, 64)
    assert kills == plan(1, 64) != plan(2, 64)
    assert {(one.kind, one.stage) for one in kills} == {(kind, stage) for kind in Kind for stage in STAGES[kind]}
    assert {(one.kind, one.stage, one.victim) for one in kills[:32]} == {
        (one.kind, one.stage, one.victim) for one in kills[32:]
    }


def test_a_damaged_release_would_be_found(tmp_path: Path) -> None:
    Maker().release(tmp_path / "1.0.bundle", "1.0")
    release = tmp_path / "1.0"
    (release / "agent").mkdir(parents=True)
    (release / "agent" / "loop.py").write_bytes(b"not what was signed")
    damaged = damaged_files(tmp_path / "1.0.bundle", release)
    assert "1.0/agent/loop.py is damaged" in damaged
    assert "1.0/__main__.py is damaged" in damaged
