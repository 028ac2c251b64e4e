"""The core: ``(state, event, now) -> (state, actions)``. No clock, socket, file, thread or random number in here."""

from collections.abc import Callable

from agent.pile import charging, configure, records, reservations, tariffs, timekeeping, upgrade, upgrade_orders, upkeep
from agent.pile.actions import Action, RebootBoards, RebootGun, Reply, StartGun, StopGun
from agent.pile.events import (
    BoardFaults,
    Commanded,
    Delivered,
    Event,
    FirmwareFailed,
    FirmwareFetched,
    FirmwareProgress,
    FlashDone,
    FlashProgress,
    GunSet,
    InstallerAnswered,
    JobDone,
    LinkChanged,
    Measured,
    Refused,
    Repeated,
    Replayed,
    Resumed,
    ServerTried,
    Silenced,
    Ticked,
    VersionsRead,
)
from agent.pile.state import Now, PileConfig, PileState, Request
from agent.pile.turn import Turn, repetition
from agent.protocol.codec import plain_text
from cext.message import Message

Handler = Callable[[Turn, Message, Request], None]

HANDLERS: dict[int, Handler] = {
    100: upkeep.heartbeat,
    101: charging.start_or_stop,
    102: reservations.reserve,
    103: reservations.query,
    104: records.query,
    105: records.query_delivery,
    106: configure.configure,
    107: upkeep.set_heartbeat,
    108: upkeep.reboot,
    109: configure.set_site,
    110: tariffs.set_tariff,
    111: upgrade_orders.query,
    112: upkeep.query_versions,
    113: upgrade_orders.announce,
    114: upgrade_orders.order,
}


def handle(config: PileConfig, state: PileState, event: Event, now: Now) -> tuple[PileState, tuple[Action, ...]]:
    """What the pile becomes by ``event``, and what is to be done. The old state stays as it was."""
    turn = Turn(config, state, now)
    timekeeping.keep_up(turn)
    reservations.keep_up(turn)
    _dispatch(turn, event)
    reservations.keep_up(turn)
    upkeep.reboot_when_idle(turn)
    configure.go_on(turn)
    upgrade.go_on(turn)
    return turn.state, tuple(turn.actions)


def _dispatch(turn: Turn, event: Event) -> None:
    match event:
        case Measured(reading):
            upkeep.back_after_reboot(turn, reading.gun)
            configure.board_answers(turn, reading.gun)
            charging.measured(turn, reading)
        case Ticked():
            _time_passed(turn)
        case Commanded(message, request, stored):
            turn.stored = stored
            HANDLERS[message.command](turn, message, request)
        case Repeated(request, outcome):
            _repeat(turn, request, outcome)
        case Refused(request, result, text):
            turn.do(Reply(request, result, f"{result.value},{plain_text(text)}"))
        case Silenced(gun):
            charging.silenced(turn, gun)
        case BoardFaults(board, faults):
            records.board_faults_reported(turn, board, faults)
        case JobDone(StartGun() as job, result, text):
            charging.start_done(turn, job, result, text)
        case JobDone(StopGun() as job, result, text):
            charging.stop_done(turn, job, result, text)
        case JobDone(RebootGun() | RebootBoards(), result, text):
            upkeep.reboot_done(turn, result, text)
        case GunSet():
            configure.gun_set(turn, event)
        case ServerTried():
            configure.server_tried(turn, event)
        case VersionsRead(versions):
            upkeep.versions_read(turn, versions)
        case LinkChanged(connected):
            _link_changed(turn, connected)
        case Resumed(boot):
            upkeep.resume(turn)
            upgrade.resume(turn, boot)
        case FirmwareProgress():
            upgrade.progressed(turn, event)
        case FirmwareFetched():
            upgrade.fetched(turn, event)
        case FirmwareFailed():
            upgrade.failed(turn, event)
        case InstallerAnswered():
            upgrade.installer_answered(turn, event)
        case FlashProgress(percent):
            upgrade.flash_progressed(turn, percent)
        case FlashDone():
            upgrade.flashed(turn, event)
        case Replayed():
            records.replayed(turn, event)
        case Delivered():
            turn.change(offline_bills=0)
            upkeep.begin_reboot(turn)


def _time_passed(turn: Turn) -> None:
    now_ms = turn.now.mono_ms
    for gun in list(turn.state.guns.values()):
        charging.time_passed(turn, gun)
    if now_ms >= turn.state.next_feed_ms:
        upkeep.feed_watchdogs(turn)
    if now_ms >= turn.state.next_heartbeat_ms:
        upkeep.send_heartbeat(turn)
    upgrade.time_passed(turn)
    if turn.state.rebooting is not None and now_ms >= turn.state.rebooting.due_ms:
        upkeep.begin_reboot(turn)


def _link_changed(turn: Turn, connected: bool) -> None:
    turn.change(connected=connected)
    if connected:
        upkeep.send_heartbeat(turn)


def _repeat(turn: Turn, request: Request, outcome: str) -> None:
    """The first outcome stands. While there is none, its reply, still to come, answers the repetition too."""
    if outcome:
        turn.do(repetition(request, outcome))
