"""A charge killed at random instants: a real agent, a broker, a board on its line, sometimes without power either."""

from collections import Counter
from collections.abc import Iterator

import pytest
from site_helpers import FAST

from sim.recovery import OFFSETS_MS, Kill, Moment, Trial, plan
from sim.site import Site

SEED, KILLS = 27, 6  # each moment once, half of them without power


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), baud=115_200, speedup=2, settings={"line": FAST}) as site:
        site.start_agent()
        yield site


@pytest.mark.parametrize("number", range(KILLS))
def test_an_order_has_one_bill_with_every_wh_whenever_the_agent_is_killed(site: Site, number: int) -> None:
    outcome = Trial(site, f"K{number}", plan(SEED, KILLS)[number]).run()
    assert outcome.wrong == []


def test_a_charge_that_the_board_goes_on_with_is_gone_on_with(site: Site) -> None:
    outcome = Trial(site, "G1", Kill(Moment.CHARGING, 700, with_power=False)).run()
    assert (outcome.wrong, outcome.phase, outcome.has_resumed) == ([], "charging", True)


def test_a_charge_whose_board_lost_its_power_too_is_closed_with_reason_10(site: Site) -> None:
    outcome = Trial(site, "P1", Kill(Moment.CHARGING, 1200, with_power=True)).run()
    assert (outcome.wrong, outcome.has_resumed) == ([], False)
    assert [bill.stop_reason for bill in outcome.bills] == [10]
    assert outcome.metered_wh > 0


def test_the_seed_draws_the_kills() -> None:
    kills = plan(SEED, 24)
    assert kills == plan(SEED, 24) != plan(SEED + 1, 24)
    assert Counter((kill.moment, kill.with_power) for kill in kills) == {
        (moment, with_power): 2 for moment in Moment for with_power in (False, True)
    }
    assert all(kill.offset_ms in range(low, high + 1) for kill in kills for low, high in [OFFSETS_MS[kill.moment]])
