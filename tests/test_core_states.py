"""Every state of docs/states.md x every command and every event: what is answered, and which state follows.

The states stand in the order of their numbers: 1 idle, 2 plugged, 3 starting, 4 charging, 5 stopping, 6 ended and still
plugged, 7 reserved, 8 out of service, 9 fault, 10 updating. ``core_helpers.Pile`` holds every change to the edges of
docs/states.md besides.
"""

from collections.abc import Callable
from typing import get_args

import pytest
from core_helpers import (
    CAP_FEN,
    MONO_MS,
    PILE,
    WALL_MS,
    Done,
    Pile,
    charging_pile,
    plugged_pile,
    start_job,
    starting_pile,
    stopping_pile,
)  # fmt: skip

from agent.pile import events
from agent.pile.actions import Reply, SetGun, StopGun
from agent.pile.board import BoardState, GunReading
from agent.pile.firmware import ImageFile, Kind, Step
from agent.pile.parameters import BoardSettings, Server
from agent.pile.state import Request
from agent.pile.status import status_of
from agent.protocol.commands import COMMANDS
from agent.protocol.results import GunStatus, Result

NOW_S = WALL_MS // 1000
REQUEST = Request(101, str(WALL_MS), "another")
IMAGE = ImageFile(Kind.AGENT, "0.2.0", (), 1, 0, "x")


# ---- the states


def idle_pile() -> Pile:
    pile = Pile()
    for gun in pile.state.guns:
        pile.measured("idle", gun)
    pile.tick()
    return pile


def ended_pile() -> Pile:
    pile = stopping_pile()
    pile.measured("ended")
    return pile


def reserved_pile() -> Pile:
    pile = plugged_pile()
    pile.command(102, f"1,U1,1,{NOW_S},{NOW_S + 3600}")
    return pile


def silent_pile() -> Pile:
    pile = plugged_pile()
    pile.silenced()
    return pile


def faulty_pile() -> Pile:
    pile = plugged_pile()
    pile.measured("fault", faults=("insulation",))
    return pile


def updating_pile() -> Pile:
    pile = plugged_pile()
    pile.measured("updating")
    return pile


PILES: dict[GunStatus, Callable[[], Pile]] = dict(
    zip(
        GunStatus,
        (idle_pile, plugged_pile, starting_pile, charging_pile, stopping_pile, ended_pile, reserved_pile, silent_pile,
         faulty_pile, updating_pile),
        strict=True,
    )
)  # fmt: skip


@pytest.mark.parametrize("status", GunStatus)
def test_each_state_is_reached(status: GunStatus) -> None:
    assert shown(PILES[status]()) is status


# ---- every command


# name: data on the wire; gun 1 was started, where it was, with order A1 for ACC, and is reserved, where it is, for U1
COMMAND_DATA = {
    "100": "",
    "101 starts A1": f"1,{PILE},1,ACC,{CAP_FEN},0,0,A1",
    "101 starts A2": f"1,{PILE},1,ACC,{CAP_FEN},0,0,A2",
    "101 starts A2 for U1": f"1,{PILE},1,U1,{CAP_FEN},0,0,A2",
    "101 starts A2 without money": f"3,{PILE},1,ACC,0,0,0,A2",
    "101 starts gun 9": f"1,{PILE},9,ACC,{CAP_FEN},0,0,A2",
    "101 stops A1": f"2,{PILE},1,ACC,0,0,0,A1",
    "101 stops A2": f"4,{PILE},1,ACC,0,0,0,A2",
    "102 reserves now": f"1,U2,1,{NOW_S},{NOW_S + 600}",
    "102 reserves later": f"1,U2,1,{NOW_S + 7200},{NOW_S + 9000}",
    "102 cancels for U1": "2,U1,1,0,0",
    "103": "1",
    "104": "1",
    "105": "",
    "106": "3,32,1,1,100,2,1000,1,admin,HASH,30,10.0.0.2,1883,0",
    "107": "20,60",
    "108 gun 1": "1",
    "108 pile": "0",
    "109": "1,121.4,31.2,12,3,ST01,310000,3",
    "110": "T7,0,1,00:00:00,24:00:00,100000,50000",
    "111": "",
    "112": "",
    "113": "1.2.3.4:21,firmware,secret,1,0.1.0,R9",
    "114": "0.2.0,R9,/a.bundle,1024",
}

# The result that comes at once ("-": none does), and behind > the state that follows where it is another one.
ANSWERS = """
state                        1    2     3    4    5   6     7     8   9   10
100                          0    0     0    0    0   0     0     0   0   0
101 starts A1                20   1>3   3    3    3   3     22    40  24  25
101 starts A2                20   1>3   21   21   21  1>3   22    40  24  25
101 starts A2 for U1         20   1>3   21   21   21  1>3   1>3   40  24  25
101 starts A2 without money  20   23    21   21   21  23    22    40  24  25
101 starts gun 9             12   12    12   12   12  12    12    12  12  12
101 stops A1                 27   27    1>5  1>5  1   27    27    27  27  27
101 stops A2                 27   27    28   28   28  27    27    27  27  27
102 reserves now             0>7  0>7   21   21   21  0     22    0   0   0
102 reserves later           0    0     0    0    0   0     0     0   0   0
102 cancels for U1           30   30    30   30   30  30    0>2   30  30  30
103                          0    0     0    0    0   0     0     0   0   0
104                          30   30    30   30   30  30    30    30  30  30
105                          30   30    30   30   30  30    30    30  30  30
106                          1    1     2    2    2   1     1     1   1   1
107                          0    0     0    0    0   0     0     0   0   0
108 gun 1                    0    0     2    2    2   0     0     0   0   0
108 pile                     0    0     2    2    2   0     0     0   0   0
109                          0    0     0    0    0   0     0     0   0   0
110                          0    0     0    0    0   0     0     0   0   0
111                          0    0     0    0    0   0     0     0   0   0
112                          -    -     -    -    -   -     -     -   -   -
113                          14   14    14   14   14  14    14    14  14  14
114                          50   50    50   50   50  50    50    50  50  50
"""


# ---- every event of board, time, link and installer


def polled(board: str, order: str = "A1", plugged: bool = True) -> Callable[[Pile], Done]:
    return lambda pile: pile.measured(board, order=order, plugged=plugged)


def takes(event: events.Event) -> Callable[[Pile], Done]:
    return lambda pile: pile.take(event)


BOARD_STATES = [state.value for state in BoardState]
POLLS = {
    **{f"board {state}": polled(state) for state in BOARD_STATES},
    **{f"board {state}, plug out": polled(state, plugged=False) for state in BOARD_STATES},
    **{f"board {state}, order B7": polled(state, order="B7") for state in BOARD_STATES},
    **{f"board {state}, no order": polled(state, order="") for state in BOARD_STATES},
    "a reading from before": takes(events.Measured(GunReading(1, MONO_MS - 1, BoardState.FAULT, False, energy_wh=0))),
}
EVENTS = {
    "the board has a fault": takes(events.BoardFaults("the board", ("clock_not_set",))),
    "silenced": takes(events.Silenced(1)),
    "a second passes": lambda pile: pile.after(1),
    "61 s pass": lambda pile: pile.after(61),
    "silent for 301 s": lambda pile: (pile.silenced(), pile.after(301))[1],
    "the start is written": takes(events.JobDone(start_job(), Result.OK)),
    "the start is not written": takes(events.JobDone(start_job(), Result.DEVICE_SILENT, "in words")),
    "the stop is written": takes(events.JobDone(StopGun(1), Result.OK)),
    "the stop is not written": takes(events.JobDone(StopGun(1), Result.DEVICE_SILENT, "in words")),
    "the agent restarts": lambda pile: pile.restart(),
    "resumed": takes(events.Resumed()),
    "a repetition": takes(events.Repeated(REQUEST, "1,1,A1,3")),
    "a bad line": takes(events.Refused(REQUEST, Result.MALFORMED, "in words")),
    "a gun's board is set": takes(events.GunSet(SetGun(1, BoardSettings(320), None), BoardSettings(None), Result.OK)),
    "a server is tried": takes(events.ServerTried(Server("elsewhere", 1), True)),
    "versions are read": takes(events.VersionsRead(())),
    "the link is lost": takes(events.LinkChanged(False)),
    "all is delivered": takes(events.Delivered()),
    "records are replayed": takes(events.Replayed(REQUEST, 1, 1)),
    "a file is fetched": takes(events.FirmwareProgress("R9", 50)),
    "the file is here": takes(events.FirmwareFetched("R9", IMAGE)),
    "the file can't be had": takes(events.FirmwareFailed("R9", Result.DOWNLOAD_FAILED, "in words")),
    "the installer answers": takes(events.InstallerAnswered(Step.STAGE, Result.OK)),
    "the boards take an image": takes(events.FlashProgress(50)),
    "the boards have the image": takes(events.FlashDone(Result.OK, "", "2.0")),
}

# The state that follows; a charge that is over shows 6 while the plug is in.
FOLLOWS = """
state                       1   2   3   4   5   6   7   8   9   10
board idle                  2   2   3   6   6   6   7   2   2   2
board plugged               2   2   3   6   6   6   7   2   2   2
board starting              2   2   3   6   5   6   7   2   2   2
board charging              2   2   4   4   5   6   7   2   2   2
board stopping              2   2   3   4   5   6   7   2   2   2
board ended                 2   2   3   6   6   6   7   2   2   2
board fault                 9   9   9   9   9   9   9   9   9   9
board updating              10  10  3   10  10  10  10  10  10  10
board idle, plug out        1   1   1   1   1   1   7   1   1   1
board plugged, plug out     1   1   1   1   1   1   7   1   1   1
board starting, plug out    1   1   1   1   5   1   7   1   1   1
board charging, plug out    1   1   4   4   5   1   7   1   1   1
board stopping, plug out    1   1   1   4   5   1   7   1   1   1
board ended, plug out       1   1   1   1   1   1   7   1   1   1
board fault, plug out       9   9   9   9   9   9   9   9   9   9
board updating, plug out    10  10  10  10  10  10  10  10  10  10
board idle, order B7        2   2   3   6   6   6   7   2   2   2
board plugged, order B7     2   2   3   6   6   6   7   2   2   2
board starting, order B7    2   2   3   6   6   6   7   2   2   2
board charging, order B7    2   2   3   6   6   6   7   2   2   2
board stopping, order B7    2   2   3   6   6   6   7   2   2   2
board ended, order B7       2   2   3   6   6   6   7   2   2   2
board fault, order B7       9   9   9   9   9   9   9   9   9   9
board updating, order B7    10  10  3   10  10  10  10  10  10  10
board idle, no order        2   2   3   6   6   6   7   2   2   2
board plugged, no order     2   2   3   6   6   6   7   2   2   2
board starting, no order    5   5   3   6   6   5   5   5   5   5
board charging, no order    5   5   3   6   6   5   5   5   5   5
board stopping, no order    2   2   3   6   6   6   7   2   2   2
board ended, no order       2   2   3   6   6   6   7   2   2   2
board fault, no order       9   9   9   9   9   9   9   9   9   9
board updating, no order    10  10  3   10  10  10  10  10  10  10
a reading from before       1   2   3   4   5   6   7   8   9   10
the board has a fault       1   2   3   4   5   6   7   8   9   10
silenced                    8   8   3   4   5   8   8   8   8   8
a second passes             1   2   3   4   5   6   7   8   9   10
61 s pass                   1   2   6   4   5   6   7   8   9   10
silent for 301 s            8   8   8   8   8   8   8   8   8   8
the start is written        1   2   3   4   5   6   7   8   9   10
the start is not written    1   2   6   4   5   6   7   8   9   10
the stop is written         1   2   3   4   5   6   7   8   9   10
the stop is not written     1   2   3   4   5   6   7   8   9   10
the agent restarts          8   8   3   4   5   8   8   8   8   8
resumed                     1   2   3   4   5   6   7   8   9   10
a repetition                1   2   3   4   5   6   7   8   9   10
a bad line                  1   2   3   4   5   6   7   8   9   10
a gun's board is set        1   2   3   4   5   6   7   8   9   10
a server is tried           1   2   3   4   5   6   7   8   9   10
versions are read           1   2   3   4   5   6   7   8   9   10
the link is lost            1   2   3   4   5   6   7   8   9   10
all is delivered            1   2   3   4   5   6   7   8   9   10
records are replayed        1   2   3   4   5   6   7   8   9   10
a file is fetched           1   2   3   4   5   6   7   8   9   10
the file is here            1   2   3   4   5   6   7   8   9   10
the file can't be had       1   2   3   4   5   6   7   8   9   10
the installer answers       1   2   3   4   5   6   7   8   9   10
the boards take an image    1   2   3   4   5   6   7   8   9   10
the boards have the image   1   2   3   4   5   6   7   8   9   10
"""


# ---- the tables, read


def rows(table: str) -> dict[str, dict[GunStatus, str]]:
    """The cells of each row, by the state they stand under."""
    lines = [line.rsplit(maxsplit=len(GunStatus)) for line in table.strip().splitlines()[1:]]
    return {name: dict(zip(GunStatus, cells, strict=True)) for name, *cells in lines}


def shown(pile: Pile) -> GunStatus:
    return status_of(pile.gun(), pile.mono_ms)


@pytest.mark.parametrize("status", GunStatus, ids=lambda status: status.name.lower())
@pytest.mark.parametrize("name", COMMAND_DATA)
def test_what_a_command_is_answered(name: str, status: GunStatus) -> None:
    pile = PILES[status]()
    done = pile.command(int(name.split()[0]), COMMAND_DATA[name])
    results = [str(action.result.value) for action in done.actions if isinstance(action, Reply)]
    answer = ",".join(results) or "-"
    after = "" if shown(pile) is status else f">{shown(pile).value}"
    assert answer + after == rows(ANSWERS)[name][status]


@pytest.mark.parametrize("status", GunStatus, ids=lambda status: status.name.lower())
@pytest.mark.parametrize("name", POLLS | EVENTS)
def test_which_state_follows(name: str, status: GunStatus) -> None:
    pile = PILES[status]()
    (POLLS | EVENTS)[name](pile)
    assert shown(pile) is GunStatus(int(rows(FOLLOWS)[name][status]))


def test_no_row_is_without_its_event_and_no_event_without_its_row() -> None:
    assert list(rows(ANSWERS)) == list(COMMAND_DATA)
    assert list(rows(FOLLOWS)) == list(POLLS | EVENTS)


def test_every_command_of_the_protocol_has_a_row() -> None:
    assert {int(name.split()[0]) for name in COMMAND_DATA} == set(COMMANDS)


def test_every_kind_of_event_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[type] = {events.Commanded}  # the table of answers

    def take(_pile: Pile, event: events.Event) -> Done:
        taken.add(type(event))
        return Done(())

    pile = plugged_pile()
    monkeypatch.setattr(Pile, "take", take)
    for happens in (POLLS | EVENTS).values():
        happens(pile)
    assert taken == set(get_args(events.Event))
