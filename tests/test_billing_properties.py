"""What a bill is, whatever the readings were like: cut up, read in another order, late, of several guns in turns."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

from core_helpers import METER_WH, Pile, plugged_pile
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.bill import faults_of
from agent.protocol.commands import ChargingRecord, Segment

DAY_AND_NIGHT = "T7,0,2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,40000,30000"
BEGIN_S = 13 * 3600  # 21:00 local time: a charge of hours crosses into the night, and maybe out of it again
ORDERS = {1: "A1", 2: "B1"}


@dataclass(frozen=True)
class Poll:
    """A reading of a gun: so many seconds after the one before, so many Wh more."""

    seconds: int
    wh: int


POLLS = st.lists(st.builds(Poll, st.integers(0, 4 * 3600), st.integers(0, 20_000)), min_size=1, max_size=8)
CUTS = st.lists(st.floats(0, 1), max_size=6)


def charging(*guns: int) -> Pile:
    pile = plugged_pile()
    pile.command(110, DAY_AND_NIGHT)
    pile.pass_time(BEGIN_S)
    for gun in guns:
        pile.start(ORDERS[gun], gun, balance=10**9)
        pile.charging(order=ORDERS[gun], gun=gun)
    return pile


def read(pile: Pile, gun: int, used_wh: int, at_ms: int | None = None) -> None:
    pile.charging(used_wh, order=ORDERS[gun], gun=gun, at_ms=pile.mono_ms if at_ms is None else at_ms)


def end(pile: Pile, gun: int, used_wh: int) -> ChargingRecord:
    pile.stop(ORDERS[gun], gun)
    (bill,) = pile.measured("ended", gun, order=ORDERS[gun], energy_wh=METER_WH + used_wh).bills
    return bill


def bill_of(polls: list[Poll]) -> ChargingRecord:
    """One gun alone."""
    pile = charging(1)
    used_wh = 0
    for poll in polls:
        pile.pass_time(poll.seconds)
        used_wh += poll.wh
        read(pile, 1, used_wh)
    return end(pile, 1, used_wh)


def cut(poll: Poll, at: float) -> list[Poll]:
    """The same in two readings."""
    first = Poll(int(poll.seconds * at), int(poll.wh * at))
    return [first, Poll(poll.seconds - first.seconds, poll.wh - first.wh)]


@given(POLLS, CUTS)
def test_any_split_of_the_same_energy_gives_the_same_total_energy(polls: list[Poll], cuts: list[float]) -> None:
    finer = list(polls)
    for number, at in enumerate(cuts):
        place = number % len(finer)
        finer[place : place + 1] = cut(finer[place], at)
    whole, parts = bill_of(polls), bill_of(finer)
    assert whole.energy_wh == parts.energy_wh == sum(poll.wh for poll in polls)
    assert (whole.meter_end_wh, whole.end_ms) == (parts.meter_end_wh, parts.end_ms)


@given(POLLS)
def test_a_bill_re_adds_and_no_part_of_it_is_negative(polls: list[Poll]) -> None:
    bill = bill_of(polls)
    assert faults_of(bill) == []
    assert bill.meter_end_wh - bill.meter_start_wh == bill.energy_wh
    assert min(bill.energy_wh, bill.electricity_fen, bill.service_fen, bill.total_fen, bill.free_used_fen) >= 0
    assert all(min(row.energy_wh, row.electricity_fen, row.service_fen) >= 0 for row in bill.segments)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(bill.segments))
    assert (bill.segments[0].start_ms, bill.segments[-1].end_ms) == (bill.start_ms, bill.end_ms)


TURNS = st.lists(st.tuples(st.integers(0, 4 * 3600), st.integers(0, 20_000), st.integers(0, 20_000), st.booleans()),
                 min_size=1, max_size=8)  # fmt: skip


@given(TURNS)
def test_which_gun_is_read_first_changes_no_bill(turns: list[tuple[int, int, int, bool]]) -> None:
    """Two guns on two lines: their readings come in any order, and each is billed as if it were alone."""
    pile = charging(1, 2)
    used_wh = {1: 0, 2: 0}
    for seconds, first_wh, second_wh, is_swapped in turns:
        pile.pass_time(seconds)
        used_wh = {1: used_wh[1] + first_wh, 2: used_wh[2] + second_wh}
        for gun in (2, 1) if is_swapped else (1, 2):
            read(pile, gun, used_wh[gun])
    one, two = end(pile, 1, used_wh[1]), end(pile, 2, used_wh[2])
    assert one == bill_of([Poll(seconds, wh) for seconds, wh, _, _ in turns])
    assert two._replace(order="A1", gun=1) == bill_of([Poll(seconds, wh) for seconds, _, wh, _ in turns])


@given(POLLS, st.permutations([1] * 8 + [2] * 8))
def test_readings_that_pile_up_are_billed_the_same_in_whatever_order_the_guns_come(
    polls: list[Poll], order: list[int]
) -> None:
    """The agent was busy: all readings of both guns are handled at once. Of one gun they stay in their order."""
    pile = charging(1, 2)
    taken = list(accumulate(polls, lambda one, two: Poll(one.seconds + two.seconds, one.wh + two.wh)))
    begin_ms = pile.mono_ms
    pile.pass_time(taken[-1].seconds)
    waiting = {1: list(taken), 2: list(taken)}
    for gun in order:
        if waiting[gun]:
            poll = waiting[gun].pop(0)
            read(pile, gun, poll.wh, begin_ms + 1000 * poll.seconds)
    one, two = end(pile, 1, taken[-1].wh), end(pile, 2, taken[-1].wh)
    assert one == two._replace(order="A1", gun=1)
    assert one.energy_wh == taken[-1].wh


@given(POLLS, st.data())
def test_a_late_reading_changes_no_bill(polls: list[Poll], data: st.DataObject) -> None:
    """Readings from before the last one, however many: the meter is not thought to have gone back."""
    pile = charging(1)
    seen = [(pile.mono_ms, 0)]
    for poll in polls:
        pile.pass_time(poll.seconds + 1)
        seen.append((pile.mono_ms, seen[-1][1] + poll.wh))
        read(pile, 1, seen[-1][1])
        for at_ms, used_wh in data.draw(st.lists(st.sampled_from(seen[:-1]), max_size=6)):
            read(pile, 1, used_wh, at_ms)
    assert end(pile, 1, seen[-1][1]) == bill_of([Poll(poll.seconds + 1, poll.wh) for poll in polls])


def test_a_segment_is_what_the_properties_are_about() -> None:
    """By hand: 21:00 to 23:00, 2001 Wh evenly; 1000 by day, 1001 by night."""
    bill = bill_of([Poll(7200, 2001)])
    middle_ms = bill.start_ms + 3_600_000
    assert bill.segments == (
        Segment(bill.start_ms, middle_ms, 1000, 100_000, 50_000, 100, 50),
        Segment(middle_ms, bill.end_ms, 1001, 40_000, 30_000, 40, 30),
    )
