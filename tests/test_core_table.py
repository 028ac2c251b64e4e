"""Every phase x every event lands somewhere defined: no exception, the old state untouched, no reply lost or doubled,
and what is durable comes back from JSON the same."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from core_helpers import CODEC, MONO_MS, PILE, WALL_MS, Pile, charging_pile, plugged_pile, starting_pile, stopping_pile

from agent.pile.actions import RebootBoards, RebootGun, Reply, SetGun, StartGun, StopGun
from agent.pile.board import BoardState, DeviceVersion, GunReading
from agent.pile.core import handle
from agent.pile.durable import changed_parts, restore
from agent.pile.events import (
    Commanded,
    Delivered,
    Event,
    GunSet,
    JobDone,
    LinkChanged,
    Measured,
    Refused,
    Repeated,
    Resumed,
    ServerTried,
    Silenced,
    Ticked,
    VersionsRead,
)
from agent.pile.parameters import BoardSettings, Server
from agent.pile.state import Now, PileState, Request, new_state
from agent.protocol.commands import COMMANDS
from agent.protocol.results import Result, StopReason

SERVER = Server("10.0.0.2", 1883)
CONFIGURE = "3,32,2,1,100,2,1000,1,admin,HASH,30,10.0.0.2,1883,0"
LATER_MS = {"at once": 0, "past every deadline": 10**7}


# ---- the states


def new_pile() -> Pile:
    return Pile()


def stopping_while_starting() -> Pile:
    pile = starting_pile()
    pile.stop()
    return pile


def silent_while_charging() -> Pile:
    pile = charging_pile()
    pile.silenced()
    return pile


def restarted_while_starting() -> Pile:
    pile = starting_pile()
    pile.restart()
    return pile


def restarted_while_stopping() -> Pile:
    pile = stopping_pile()
    pile.restart()
    return pile


def reboot_deferred() -> Pile:
    pile = charging_pile()
    pile.command(108, "0")
    return pile


def reboot_announced() -> Pile:
    pile = plugged_pile()
    pile.command(108, "1")
    return pile


def rebooting() -> Pile:
    pile = reboot_announced()
    pile.take(Delivered())
    return pile


def versions_asked() -> Pile:
    pile = stopping_pile()
    pile.command(112)
    return pile


def reserved_for_another() -> Pile:
    pile = charging_pile()
    pile.command(102, f"1,U1,1,{WALL_MS // 1000 + 1},{WALL_MS // 1000 + 3600}")
    pile.after(1)
    return pile


def configure_waits() -> Pile:
    pile = charging_pile()
    pile.command(106, CONFIGURE)
    return pile


def configure_at_the_boards() -> Pile:
    pile = plugged_pile()
    pile.command(106, CONFIGURE)
    return pile


def configure_tries_the_server() -> Pile:
    pile = configure_at_the_boards()
    assert pile.state.configuring is not None
    for gun in pile.state.configuring.left:
        job = SetGun(gun, pile.state.configuring.board, pile.state.configuring.request)
        pile.take(GunSet(job, BoardSettings(None), Result.OK))
    return pile


def boards_are_owed() -> Pile:
    pile = configure_tries_the_server()
    pile.take(ServerTried(SERVER, True))
    for gun in (1, 2):
        pile.silenced(gun)
        pile.measured("plugged", gun)
    return pile


STATES = (
    *(reserved_for_another, configure_waits, configure_at_the_boards, configure_tries_the_server, boards_are_owed),
    *(new_pile, plugged_pile, starting_pile, charging_pile, stopping_pile, stopping_while_starting),
    *(silent_while_charging, restarted_while_starting, restarted_while_stopping),
    *(reboot_deferred, reboot_announced, rebooting, versions_asked),
)


# ---- the events


def commands() -> Iterator[Event]:
    lines = [(number, command.example) for number, command in COMMANDS.items()]
    lines += [(108, "0"), (108, "2"), (108, "9"), (107, "5,5")]
    lines += [
        (101, f"{kind},{PILE},{gun},ACC,{money},0,0,{order}")
        for kind, gun, money, order in product(
            (1, 2, 3, 4), (1, 2, 9), (0, 1000, 2**63 - 1), ("A1", "A2", "订" * 20_000)
        )
    ]
    for number, data in lines:
        line = f"10.0.0.1,API:2.0.2,{number},{WALL_MS},{PILE}" + (f",{data}" if data else "")
        yield Commanded(CODEC.decode(line.encode()), Request(number, str(WALL_MS), "new"))


def readings() -> Iterator[Event]:
    for state, order, plugged, faults in product(BoardState, ("A1", "A2", "", None), (True, False), ((), ("lock",))):
        for energy_wh, reason in ((500_000, None), (2**32, StopReason.FULL), (0, None), (None, StopReason.POWER_LOST)):
            yield Measured(
                GunReading(
                    1, MONO_MS + 10**6, state, plugged, faults, reason, order, power_w=2**31, energy_wh=energy_wh
                )
            )


def jobs_done() -> Iterator[Event]:
    jobs = (StartGun(1, "A1", 10, 320), StartGun(1, "A2", None, 320), StopGun(1), StopGun(2))
    for job, result in product((*jobs, RebootGun(1), RebootBoards()), (Result.OK, Result.NOT_APPLIED)):
        yield JobDone(job, result, "in words, with a comma\n")


def settings_done() -> Iterator[Event]:
    waits = configure_waits().state.configuring
    assert waits is not None
    for gun, request, result in product((1, 2), (None, waits.request), (Result.OK, Result.DEVICE_REFUSED)):
        yield GunSet(SetGun(gun, waits.board, request), BoardSettings(320, "cc"), result, "in words, with a comma\n")
    for server, is_reached in product((SERVER, Server("elsewhere", 1)), (True, False)):
        yield ServerTried(server, is_reached, "nobody, there")


def others() -> Iterator[Event]:
    old = Request(101, str(WALL_MS), "old")
    yield from (Ticked(), Delivered(), Resumed(), LinkChanged(True), LinkChanged(False), Silenced(1), Silenced(2))
    yield from (VersionsRead(()), VersionsRead((DeviceVersion("a,b", "\x00,"),)))
    yield from (Repeated(old, ""), Repeated(old, "1,1,A1,3"), Refused(old, Result.MALFORMED, "a,\x00b,"))


EVENTS = {"command": commands, "reading": readings, "job": jobs_done, "settings": settings_done, "other": others}


# ---- what must hold


def owed(state: PileState) -> set[str]:
    """The keys of the requests that a reply is owed to."""
    sessions = [gun.session for gun in state.guns.values() if gun.session is not None]
    requests = [request for session in sessions for request in session.stop_requests]
    requests += [session.start_request for session in sessions if session.start_request is not None]
    requests += [state.pending_reboot.request] if state.pending_reboot else []
    requests += [state.configuring.request] if state.configuring else []
    return {request.key for request in (*requests, *state.versions_requests)}


def check(pile: Pile, event: Event, now: Now) -> None:
    before, kept = pile.state, copy.deepcopy(pile.state)
    after, actions = handle(pile.config, before, event, now)
    assert before == kept, "the old state was touched"

    finals = [action.request.key for action in actions if isinstance(action, Reply) and action.result.is_final]
    rebooting = {state.rebooting.request.key for state in (before, after) if state.rebooting is not None}
    assert len(finals) == len(set(finals)), "a request was answered twice"
    assert set(finals) & owed(after) == set(), "an answered request is still owed an answer"
    new = {"new"} if isinstance(event, Commanded) else set()
    assert (owed(before) | new) - set(finals) - rebooting <= owed(after), "a request was forgotten"

    for action in actions:
        if isinstance(action, Reply):
            assert action.outcome.isprintable()
            assert not action.outcome.endswith(",")
            assert len(action.outcome.encode()) < 5000
    check_durable(pile, before, after, now)


def check_durable(pile: Pile, before: PileState, after: PileState, now: Now) -> None:
    parts = json.loads(json.dumps(changed_parts(None, before) | changed_parts(before, after)))
    back = restore(pile.config, parts, now)
    assert {number: gun.session for number, gun in back.guns.items()} == {
        number: gun.session for number, gun in after.guns.items()
    }
    assert (back.settings, back.past_orders, back.pending_reboot, back.versions_requests) == (
        after.settings, after.past_orders, after.pending_reboot, after.versions_requests,
    )  # fmt: skip
    kept = (after.reservations, after.site, after.parameters, after.server)
    assert (back.reservations, back.site, back.parameters, back.server) == kept
    assert bool(back.configuring) == bool(after.configuring)
    if back.configuring is not None and after.configuring is not None:
        assert back.configuring == replace(after.configuring, is_trying=False)


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("make", STATES)
def test_every_state_takes_every_event(make: type[Pile], kind: str) -> None:
    pile = make()
    for later_ms in LATER_MS.values():
        now = Now(pile.wall_ms + later_ms, pile.mono_ms + later_ms)
        for event in EVENTS[kind]():
            check(pile, event, now)


def test_the_states_are_all_different() -> None:
    assert len({repr(make().state) for make in STATES}) == len(STATES)


def test_a_new_state_owes_nothing() -> None:
    assert owed(new_state(plugged_pile().config, Now(0, 0))) == set()
