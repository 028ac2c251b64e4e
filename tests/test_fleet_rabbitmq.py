"""The fleet's trial on a small scale: RabbitMQ, two routers, thirty light piles by certificate, a real agent."""

from collections.abc import Iterator

import pytest

from sim.fleet_site import FleetSite
from sim.fleet_trial import Receipt, Trial, first_receipts, out_of_order, percentile

PILES = 30


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with FleetSite(tmp_path_factory.mktemp("fleet"), PILES, agents=1, with_tls=True) as site:
        site.register()
        site.certify()
        site.start_routers()
        site.start_agents()
        trial = Trial(site)
        assert len(trial.log_in()) == PILES
        yield trial


def test_a_price_change_reaches_every_pile_once_and_is_answered(trial: Trial) -> None:
    outcome = trial.prices("price change")
    assert outcome.commands == PILES + 1
    assert len(outcome.latencies_ms) == PILES
    assert (outcome.lost, outcome.unanswered, outcome.repeated, outcome.out_of_order, outcome.astray) == (0, 0, 0, 0, 0)


def test_with_routers_killed_mid_stream_nothing_is_lost_or_out_of_order(trial: Trial) -> None:
    outcome = trial.routers_killed("killed", rounds=40)
    assert outcome.commands == 40 * (PILES + 1)
    assert outcome.is_right
    assert outcome.astray == 0


# --- how receipts are judged ---

STREAM: list[Receipt] = [(1, "a", 10), (3, "a", 11), (2, "a", 12), (4, "b", 13), (3, "a", 14)]


def test_a_repetition_is_no_first_receipt() -> None:
    had = {4}
    assert first_receipts(STREAM, had) == [(1, "a", 10), (3, "a", 11), (2, "a", 12)]
    assert had == {1, 2, 3, 4}


def test_an_earlier_command_after_a_later_one_is_out_of_order() -> None:
    assert out_of_order(STREAM[:2]) == 0
    assert out_of_order(STREAM[:3]) == 1
    assert out_of_order([(2, "a", 1), (1, "b", 2)]) == 0  # of different piles


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile([30.0, 10.0, 20.0, 40.0], 50) == 20.0
    assert percentile([30.0, 10.0, 20.0, 40.0], 99) == 40.0
    assert percentile([7.0], 1) == 7.0
