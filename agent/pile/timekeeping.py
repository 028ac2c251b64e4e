"""Time as it becomes known (docs/adr/0013-time.md): stamps of charges that were taken before are put right.

Within one run of the kernel the monotonic clock goes on, whatever the wall clock does. Where the time is not sure, a
charge keeps its stamps in that time too. Once the wall clock is known, or known better, they are made anew from it. Of
stamps from an earlier run only this much can be known: they are from before the present one began.
"""

from dataclasses import replace

from agent.pile.actions import MarkStamps, PutStampsRight
from agent.pile.ledger import settled, stamped_anew
from agent.pile.state import Gun, KnownTime, Now, Session
from agent.pile.turn import Turn
from agent.protocol.events import EventCode
from agent.version import RELEASED_MS

MOVED_MS = 1000  # an estimate that moves by less has only come nearer


def keep_up(turn: Turn) -> None:
    """Take notice of what the clock knows now."""
    before, present = turn.state.time, _known(turn.now)
    if before is not None and not _is_news(before, present):
        return
    turn.change(time=present)
    if before is None or before.boot != present.boot:
        _leave_boot(turn)
    if present.ahead_ms is None:
        turn.do(MarkStamps())
    elif before is None or before.boot != present.boot:
        _put_right(turn, present.ahead_ms)
    elif not before.is_sure:
        _put_right(turn, present.ahead_ms)
        _tell(turn, before, present.ahead_ms)


def _known(now: Now) -> KnownTime:
    return KnownTime(now.boot, now.ahead_ms if now.trusted else None, now.is_sure)


def _is_news(before: KnownTime, present: KnownTime) -> bool:
    """A clock that is sure is left alone: setting it moves no energy into another tariff period."""
    if (before.boot, before.is_sure) != (present.boot, present.is_sure):
        return True
    if before.ahead_ms is None or present.ahead_ms is None:
        return before.ahead_ms != present.ahead_ms
    return not present.is_sure and abs(present.ahead_ms - before.ahead_ms) >= MOVED_MS


def _leave_boot(turn: Turn) -> None:
    """The monotonic clock has begun anew: what was stamped by the one before stays as it is."""
    for gun in list(turn.state.guns.values()):
        if gun.session is not None:
            _settle(turn, gun, gun.session)


def _settle(turn: Turn, gun: Gun, session: Session) -> None:
    """The charge's stamps are sure now, or never will be."""
    ledger = settled(gun.ledger) if gun.ledger is not None else None
    turn.put(replace(gun, session=replace(session, accepted_mono_ms=None, ledger=ledger), ledger=ledger))


def _put_right(turn: Turn, ahead_ms: int) -> None:
    for gun in list(turn.state.guns.values()):
        if gun.session is not None:
            _put_charge_right(turn, gun, gun.session, ahead_ms)


def _put_charge_right(turn: Turn, gun: Gun, session: Session, ahead_ms: int) -> None:
    accepted_ms, ledger = session.accepted_ms, gun.ledger
    if session.accepted_mono_ms is not None:
        accepted_ms = session.accepted_mono_ms + ahead_ms
    elif accepted_ms < RELEASED_MS:  # in an earlier run of the kernel
        accepted_ms = ahead_ms
    if ledger is not None:
        ledger = stamped_anew(ledger, ahead_ms, session.tariff, turn.config.utc_offset_s)
    session = replace(session, accepted_ms=accepted_ms, ledger=ledger)
    gun = turn.put(replace(gun, session=session, ledger=ledger))
    if turn.now.is_sure:
        _settle(turn, gun, session)


def _tell(turn: Turn, before: KnownTime, ahead_ms: int) -> None:
    """From nothing to something: what the journal has stamped meanwhile is put right as well."""
    source = "the system's clock" if turn.now.is_sure else "the platform's commands"
    if before.ahead_ms is None:
        turn.do(PutStampsRight(ahead_ms))
        words = f"the time is known by {source}: stamps since the boot were {ahead_ms} ms behind"
    else:
        words = f"the time is known better by {source}: the clock was {ahead_ms - before.ahead_ms} ms behind"
    turn.note(0, EventCode.TIME_KNOWN, words)
