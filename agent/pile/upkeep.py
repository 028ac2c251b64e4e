"""Everything about the pile that is not a charge: heartbeat (100, 107), reboot (108), versions (112), the watchdogs."""

from dataclasses import replace

from agent.pile.actions import FeedWatchdogs, ReadVersions, RebootBoards, RebootGun, RebootHost
from agent.pile.admission import no_such_gun
from agent.pile.board import DeviceVersion
from agent.pile.state import PendingReboot, Rebooting, Request, Settings
from agent.pile.turn import Turn
from agent.protocol.codec import plain_text
from agent.protocol.commands import DeviceVersionRow, Reboot, SetHeartbeat, Versions
from agent.protocol.events import EventCode
from agent.protocol.results import Result
from cext.message import Message

REBOOT_REPLY_WAIT_MS = 5000  # the OK of a reboot gets so long to reach the broker first
REBOOT_LASTS_MS = 60_000  # a gun that has not answered by then is out of service for its silence
REBOOT_SETTLES_MS = 3000  # by then a controller that was told to restart has gone, and may be back


def heartbeat(turn: Turn, _message: Message, request: Request) -> None:
    """100."""
    turn.reply(request, Result.OK, turn.heartbeat())


def set_heartbeat(turn: Turn, message: Message, request: Request) -> None:
    """107: in force at once, and kept."""
    command: SetHeartbeat = message.data
    turn.change(settings=Settings(command.period_s, command.timeout_s))
    turn.reply(request, Result.OK, command)
    _plan_heartbeat(turn)


def send_heartbeat(turn: Turn) -> None:
    """The unasked 100; worthless once stale, so it is never stored."""
    turn.report(100, turn.heartbeat(), durable=False)
    _plan_heartbeat(turn)


def _plan_heartbeat(turn: Turn) -> None:
    turn.change(next_heartbeat_ms=turn.now.mono_ms + turn.state.settings.report_period_s * 1000)


def feed_watchdogs(turn: Turn) -> None:
    """Only a core that turns feeds: were it to hang, the boards stop charging by themselves."""
    turn.do(FeedWatchdogs())
    turn.change(next_feed_ms=turn.now.mono_ms + turn.config.feed_period_s * 1000)


def resume(turn: Turn) -> None:
    """After a restart: ask again what was being asked, and say so."""
    turn.note(0, EventCode.AGENT_STARTED, f"version {turn.config.version}")
    if not turn.now.trusted:
        turn.note(0, EventCode.TIME_UNKNOWN, "the time is not known: the system's clock is not set")
    _refuse_reboot_of_lost_gun(turn)
    if turn.state.versions_requests:
        turn.do(ReadVersions())


def _refuse_reboot_of_lost_gun(turn: Turn) -> None:
    """The configuration may have changed while a reboot was waiting."""
    pending = turn.state.pending_reboot
    if pending is not None and pending.gun and pending.gun not in turn.state.guns:
        turn.reply(pending.request, Result.NO_SUCH_GUN, no_such_gun(turn, pending.gun))
        turn.change(pending_reboot=None)


# ---- versions ----


def query_versions(turn: Turn, _message: Message, request: Request) -> None:
    """112: the devices are asked afresh; the reply follows when all have answered or have not."""
    turn.change(versions_requests=(*turn.state.versions_requests, request))
    turn.do(ReadVersions())


def versions_read(turn: Turn, versions: tuple[DeviceVersion, ...]) -> None:
    rows = tuple(DeviceVersionRow(plain_text(one.device), plain_text(one.version)) for one in versions)
    for request in turn.state.versions_requests:
        turn.reply(request, Result.OK, Versions(turn.config.version, rows))
    turn.change(versions_requests=())


# ---- reboot ----


def reboot(turn: Turn, message: Message, request: Request) -> None:
    """108: at once when no gun concerned has a charge, else when the last one has ended."""
    command: Reboot = message.data
    if command.gun and command.gun not in turn.state.guns:
        turn.reply(request, Result.NO_SUCH_GUN, no_such_gun(turn, command.gun))
    elif turn.is_stale(message.timestamp):
        turn.reply(
            request, Result.EXPIRED, f"timestamp = {message.timestamp}: older than {turn.config.command_ttl_s} s"
        )
    elif turn.state.pending_reboot or turn.state.rebooting:
        turn.reply(request, Result.BUSY, "another reboot is under way")
    else:
        turn.change(pending_reboot=PendingReboot(request, command.gun))
        if not reboot_when_idle(turn):
            turn.reply(request, Result.DEFERRED, command)


def reboot_when_idle(turn: Turn) -> bool:
    """Say OK to a pending reboot once no gun concerned has a charge or is locked. What was pending is forgotten in the
    same turn: a reboot must not be found again, and done again, after it."""
    pending = turn.state.pending_reboot
    if pending is None:
        return False
    guns = [turn.gun(number) for number in _guns_concerned(turn, pending.gun)]
    if any(gun.session or gun.is_locked for gun in guns):
        return False
    due_ms = turn.now.mono_ms + REBOOT_REPLY_WAIT_MS
    turn.change(pending_reboot=None, rebooting=Rebooting(pending.request, pending.gun, due_ms))
    turn.reply(pending.request, Result.OK, Reboot(pending.gun))
    words = f"gun {pending.gun} is rebooted" if pending.gun else "the pile is rebooted"
    turn.note(pending.gun, EventCode.REBOOT, words)
    return True


def begin_reboot(turn: Turn) -> None:
    """The OK is delivered, or has had its time: restart the controllers."""
    rebooting = turn.state.rebooting
    if rebooting is None or rebooting.begun:
        return
    turn.change(rebooting=replace(rebooting, begun=True))
    for number in _guns_concerned(turn, rebooting.gun):
        turn.put(replace(turn.gun(number), reboot_until_ms=turn.now.mono_ms + REBOOT_LASTS_MS))
    turn.do(RebootGun(rebooting.gun) if rebooting.gun else RebootBoards())


def reboot_done(turn: Turn, result: Result, text: str) -> None:
    """The controllers have heard it, or not. With the whole pile the Linux board is next, either way."""
    rebooting = turn.state.rebooting
    if rebooting is None:
        return
    turn.change(rebooting=None)
    if result is not Result.OK:
        turn.reply(rebooting.request, result, text)
        turn.note(rebooting.gun, EventCode.REBOOT_FAILED, text)
    if not rebooting.gun:
        turn.do(RebootHost())


def back_after_reboot(turn: Turn, number: int) -> None:
    """The gun was polled. An answer within the first moments may still come from the controller that is about to go."""
    gun = turn.gun(number)
    begun_ms = gun.reboot_until_ms - REBOOT_LASTS_MS
    if gun.reboot_until_ms and turn.now.mono_ms - begun_ms >= REBOOT_SETTLES_MS:
        turn.put(replace(gun, reboot_until_ms=0))


def _guns_concerned(turn: Turn, gun: int) -> list[int]:
    return [gun] if gun else list(turn.state.guns)
