"""What the platform orders of upgrades: 113 announces one, 114 begins it, 111 asks how far it is.

Their course, once begun, is in agent/pile/upgrade.py.
"""

import re

from agent.pile.actions import FetchFirmware, KeepLogin
from agent.pile.firmware import Stage, Ticket, Upgrade
from agent.pile.request import Request
from agent.pile.turn import Turn
from agent.pile.upgrade import TICKET_MS, enter, forget_ticket, report_of
from agent.protocol.commands import PackageReply, UpgradePackage, UpgradeReply
from agent.protocol.commands import Upgrade as Announcement
from agent.protocol.events import EventCode
from agent.protocol.results import Result
from cext.message import Message

PACKET_MOST = 65536
VERSION = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,31}")  # a folder's name: not a path, not hidden
NEEDED = "1"


def announce(turn: Turn, message: Message, request: Request) -> None:
    """113: with need 1 its login is kept until the 114 of the same record id."""
    command: Announcement = message.data
    if not turn.config.can_update:
        turn.reply(request, Result.NOT_SUPPORTED, "firmware.install_dir is not set: this pile can't be upgraded")
    elif turn.is_stale(message.timestamp):
        _expired(turn, message, request)
    elif command.need != NEEDED:
        _take_back(turn, command.record_id)
        turn.reply(request, Result.OK, UpgradeReply(command.record_id, 0))
    elif _is_under_way(turn):
        turn.reply(request, Result.BUSY, _busy_text(turn))
    else:
        _await_package(turn, command, request)


def _await_package(turn: Turn, command: Announcement, request: Request) -> None:
    """The version that the platform takes for the running one decides nothing: what may be installed is signed."""
    ticket = Ticket(command.record_id, command.ftp_address, command.ftp_account)
    turn.change(ticket=ticket, ticket_until_ms=turn.now.mono_ms + TICKET_MS)
    turn.do(KeepLogin(request, command.record_id, command.ftp_account))
    turn.reply(request, Result.OK, UpgradeReply(command.record_id, 1))
    if command.current_version not in ("", turn.config.version):
        words = f"113 takes {command.current_version} for the running version; the agent is {turn.config.version}"
        turn.note(0, EventCode.VERSION_DIFFERS, words)


def _take_back(turn: Turn, record_id: str) -> None:
    """Need 2 ends the waiting for a 114; an upgrade that is under way goes on."""
    if turn.state.ticket is not None and turn.state.ticket.record_id == record_id:
        forget_ticket(turn)


def order(turn: Turn, message: Message, request: Request) -> None:
    """114: the upgrade begins, if nothing stands in its way."""
    command: UpgradePackage = message.data
    if turn.is_stale(message.timestamp):
        _expired(turn, message, request)
        return
    if _answer_known(turn, command, request):
        return
    refusal = _refusal_of(turn, command)
    if refusal is not None:
        turn.reply(request, *refusal)
    else:
        _begin(turn, command, request)


def _answer_known(turn: Turn, command: UpgradePackage, request: Request) -> bool:
    """A second 114 for a record under way, or one that is in force, is DUPLICATE. A new 113 and 114 with the same
    record id try again."""
    upgrade, ticket = turn.state.upgrade, turn.state.ticket
    if upgrade is None or upgrade.ticket.record_id != command.record_id:
        return False
    if ticket is not None and ticket.record_id == command.record_id:
        return False
    if upgrade.is_over and upgrade.stage is not Stage.COMMITTED:
        return False
    first = Result.OK if upgrade.is_over else Result.ACCEPTED
    turn.duplicate(request, first, PackageReply(command.record_id, upgrade.version))
    return True


def _refusal_of(turn: Turn, command: UpgradePackage) -> tuple[Result, str] | None:
    ticket = turn.state.ticket
    if _is_under_way(turn):
        return Result.BUSY, _busy_text(turn)
    if ticket is None:
        return Result.NO_CREDENTIALS, f"record id = {command.record_id}: no 113 waits for its 114"
    if ticket.record_id != command.record_id:
        return Result.NO_CREDENTIALS, f"record id = {command.record_id}: the last 113 has {ticket.record_id}"
    if not VERSION.fullmatch(command.version):
        return Result.OUT_OF_RANGE, f"version = {command.version}: expected 1 to 32 letters, digits, . _ + or -"
    if not command.path:
        return Result.OUT_OF_RANGE, "path: expected the file's path on the FTP server"
    if command.packet_bytes > PACKET_MOST:
        return Result.OUT_OF_RANGE, f"packet length = {command.packet_bytes}: expected 1..{PACKET_MOST}"
    return None


def _begin(turn: Turn, command: UpgradePackage, request: Request) -> None:
    assert turn.state.ticket is not None
    upgrade = Upgrade(
        request, turn.state.ticket, command.version, command.path, command.packet_bytes, turn.now.wall_ms,
        Stage.DOWNLOADING,
    )  # fmt: skip
    turn.change(ticket=None)
    turn.reply(request, Result.ACCEPTED, PackageReply(command.record_id, command.version))
    turn.note(0, EventCode.UPGRADE_BEGUN, f"record {command.record_id}: version {command.version} is fetched")
    enter(turn, upgrade)
    turn.do(FetchFirmware(upgrade))


def query(turn: Turn, _message: Message, request: Request) -> None:
    """111."""
    turn.reply(request, Result.OK, report_of(turn))


def _expired(turn: Turn, message: Message, request: Request) -> None:
    turn.reply(request, Result.EXPIRED, f"timestamp = {message.timestamp}: older than {turn.config.command_ttl_s} s")


def _is_under_way(turn: Turn) -> bool:
    return turn.state.upgrade is not None and not turn.state.upgrade.is_over


def _busy_text(turn: Turn) -> str:
    assert turn.state.upgrade is not None
    return f"the upgrade with record id {turn.state.upgrade.ticket.record_id} is under way"
