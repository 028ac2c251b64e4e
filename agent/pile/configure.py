"""What the platform sets of the pile: local parameters (106) and site (109).

A 106 is checked whole, then put to the boards, gun by gun; then a new server is tried; then all of it is in force at
once. When a board or the server fails nothing of it is: the boards get back what they had. Mode and phases can't be
changed under current, so a gun that charges is waited for; the limit alone can.

``Gun.owed`` is what a board has to be brought back to: after a 106 that failed, and whenever a board answers again
after silence, for it may be another one.
"""

import re
from dataclasses import replace

from agent.pile.actions import SetGun, TryServer, UseServer
from agent.pile.board import BoardState
from agent.pile.events import GunSet, ServerTried
from agent.pile.parameters import MODES, PHASES, YES, BoardSettings, GunSettings, Parameters, Server, ShownQrCode, Site
from agent.pile.state import Configuring, Gun, Request, Settings
from agent.pile.status import is_rebooting
from agent.pile.turn import Turn
from agent.protocol.commands import Configure, ConfigureSite, Empty
from agent.protocol.events import EventCode
from agent.protocol.results import Result
from cext.message import Message

UNDER_CURRENT = (BoardState.STARTING, BoardState.CHARGING, BoardState.STOPPING)
OWED_RETRY_MS = 30_000
TIMEOUT_PERIODS = 3  # 107's timeout is so many periods where 106's period leaves the one in force too short
HOST = re.compile(r"[^\s/]{1,253}")


def set_site(turn: Turn, message: Message, request: Request) -> None:
    """109: in force at once, and kept."""
    command: ConfigureSite = message.data
    turn.change(site=Site(*command))
    turn.reply(request, Result.OK, Empty())


# ---- 106 comes ----


def configure(turn: Turn, message: Message, request: Request) -> None:
    """106. It takes the place of one that still waits for a gun."""
    command: Configure = message.data
    earlier = turn.state.configuring
    fault = _fault(turn, command)
    if fault is not None:
        turn.reply(request, Result.OUT_OF_RANGE, fault)
    elif earlier is not None and _is_at_work(turn, earlier):
        turn.reply(request, Result.BUSY, "another 106 is being carried out")
    else:
        if earlier is not None:
            turn.reply(earlier.request, Result.NOT_APPLIED, "a later 106 has taken its place")
        _begin(turn, command, request, earlier.before if earlier is not None else ())


def _fault(turn: Turn, command: Configure) -> str | None:
    """What is out of range. No value is shown, as everywhere with 106."""
    guns = turn.config.guns
    low_da, high_da = turn.config.current_range_da
    if command.guns > guns:
        return f"guns: expected 1..{guns}, as many as the power boards have"
    if not low_da <= command.max_current_a * 10 <= high_da:
        return f"max_current_a: expected {-(-low_da // 10)}..{high_da // 10}, what the power boards can keep"
    if any(code.gun > command.guns for code in command.qr_codes):
        return f"qr_codes.gun: expected 1..{command.guns}, one of the guns"
    if command.server_ip and not HOST.fullmatch(command.server_ip):
        return "server_ip: expected a host's name or address"
    return None


def _is_at_work(turn: Turn, configuring: Configuring) -> bool:
    return configuring.is_trying or any(gun.is_being_set for gun in turn.state.guns.values())


def _begin(turn: Turn, command: Configure, request: Request, before: tuple[GunSettings, ...]) -> None:
    """``before``: how the boards were that an earlier 106 has changed already."""
    parameters = _parameters(turn.state.parameters, command)
    board = parameters.board if before else _change(turn.state.parameters, parameters.board)
    server = Server(command.server_ip, command.server_port) if command.server_ip else _server(turn)
    guns = tuple(turn.state.guns)
    turn.change(configuring=Configuring(request, parameters, command.heartbeat_s, server, board, guns, before))
    must_wait = any(not _may_set(turn, turn.gun(number), board) for number in guns)
    turn.reply(request, Result.DEFERRED if must_wait else Result.ACCEPTED, Empty())


def _change(in_force: Parameters | None, board: BoardSettings) -> BoardSettings:
    """What is to be written: the limit alone where mode and phases stay, for that needs no idle gun."""
    limit_da = board.current_limit_da
    is_limit_alone = in_force is not None and replace(in_force.board, current_limit_da=limit_da) == board
    return BoardSettings(limit_da) if is_limit_alone else board


def _parameters(old: Parameters | None, command: Configure) -> Parameters:
    """What 106 says; what it leaves empty stays as it was."""
    codes = tuple(ShownQrCode(code.gun, code.data) for code in command.qr_codes)
    return Parameters(
        board=BoardSettings(command.max_current_a * 10, MODES[command.mode], PHASES[command.phase]),
        guns=command.guns,
        gun_uses=command.gun_uses,
        offline_allowed=command.offline == YES,
        offline_records=command.offline_records,
        reservations_allowed=command.reservation == YES,
        screen_account=command.screen_account or (old.screen_account if old is not None else ""),
        screen_login=command.screen_password or (old.screen_login if old is not None else ""),
        qr_codes=codes or (old.qr_codes if old is not None else ()),
    )


def _server(turn: Turn) -> Server:
    """The broker in force."""
    return turn.state.server or turn.config.broker


# ---- it goes on ----


def go_on(turn: Turn) -> None:
    """Do what may be done now, and bring back boards that are not as they should be."""
    configuring = turn.state.configuring
    if configuring is None:
        for gun in list(turn.state.guns.values()):
            _pay(turn, gun)
    elif not configuring.is_trying:
        _set_boards(turn, configuring)
    parameters = turn.state.parameters
    for gun in list(turn.state.guns.values()):
        is_withdrawn = parameters is not None and gun.number > parameters.guns
        if gun.is_withdrawn != is_withdrawn:
            turn.put(replace(gun, is_withdrawn=is_withdrawn))


def _set_boards(turn: Turn, configuring: Configuring) -> None:
    left = [turn.gun(number) for number in configuring.left if number in turn.state.guns]
    for gun in left:
        if not gun.is_being_set and _may_set(turn, gun, configuring.board):
            turn.put(replace(gun, is_being_set=True))
            turn.do(SetGun(gun.number, configuring.board, configuring.request))
    if left:
        return
    if configuring.server == _server(turn):
        _put_in_force(turn, configuring)
    else:
        turn.change(configuring=replace(configuring, is_trying=True))
        turn.do(TryServer(configuring.server))


def _may_set(turn: Turn, gun: Gun, board: BoardSettings) -> bool:
    if gun.is_locked or is_rebooting(gun, turn.now.mono_ms) or turn.reboot_awaits(gun.number):
        return False
    if board.mode is None and board.phases is None:
        return True
    return gun.session is None and (gun.reading is None or gun.reading.state not in UNDER_CURRENT)


def gun_set(turn: Turn, event: GunSet) -> None:
    """A board was set, or could not be."""
    job, configuring = event.job, turn.state.configuring
    gun = turn.put(replace(turn.gun(job.gun), is_being_set=False))
    if job.request is None:
        _paid(turn, gun, event)
    elif configuring is None or configuring.request != job.request:
        _owe(turn, gun, event.before)  # it has failed at another gun meanwhile
    else:
        before = _with_first(configuring.before, GunSettings(job.gun, event.before))
        left = tuple(number for number in configuring.left if number != job.gun)
        configuring = replace(configuring, before=before, left=left)
        turn.change(configuring=configuring)
        if event.result is not Result.OK:
            _fail(turn, configuring, event.result, event.text)


def _with_first(before: tuple[GunSettings, ...], one: GunSettings) -> tuple[GunSettings, ...]:
    """What a gun had before the first of several attempts counts."""
    return before if any(other.gun == one.gun for other in before) else (*before, one)


def server_tried(turn: Turn, event: ServerTried) -> None:
    """The new server can be used, or not."""
    configuring = turn.state.configuring
    if configuring is None or not configuring.is_trying or configuring.server != event.server:
        return
    if event.is_reached:
        turn.change(server=event.server)
        _put_in_force(turn, configuring)
        turn.do(UseServer(event.server))
    else:
        text = f"the server was not reached and {_server(turn)} is kept: {event.reason}"
        _fail(turn, configuring, Result.NOT_APPLIED, text)


def _put_in_force(turn: Turn, configuring: Configuring) -> None:
    period_s, timeout_s = configuring.heartbeat_s, turn.state.settings.report_timeout_s
    settings = Settings(period_s, timeout_s if timeout_s >= period_s else period_s * TIMEOUT_PERIODS)
    turn.change(
        configuring=None,
        owed=(),
        parameters=configuring.parameters,
        settings=settings,
        next_heartbeat_ms=turn.now.mono_ms + period_s * 1000,
    )
    for gun in list(turn.state.guns.values()):
        if gun.owed is not None:  # from before: what it is owed now is only what this 106 has not written
            is_whole = configuring.board == configuring.parameters.board
            turn.put(replace(gun, owed=None if is_whole else configuring.parameters.board))
    turn.note(0, EventCode.CONFIGURED, "new local parameters are in force")
    turn.reply(configuring.request, Result.OK, Empty())


def _fail(turn: Turn, configuring: Configuring, result: Result, text: str) -> None:
    """Nothing of it is in force; boards that were changed are owed what they had."""
    turn.change(configuring=None)
    for one in configuring.before:
        if one.gun in turn.state.guns:
            _owe(turn, turn.gun(one.gun), one.settings)
    turn.note(0, EventCode.CONFIGURE_FAILED, text)
    turn.reply(configuring.request, result, text)


# ---- what a board is owed ----


def board_answers(turn: Turn, number: int) -> None:
    """A gun was polled. If it was silent before, it may have another board, or one that missed a setting."""
    gun, parameters = turn.gun(number), turn.state.parameters
    if gun.silent and parameters is not None:
        turn.put(replace(gun, owed=parameters.board, owed_retry_ms=0))


def _owe(turn: Turn, gun: Gun, before: BoardSettings) -> None:
    """The parameters in force, or while there are none what the board had of itself."""
    parameters = turn.state.parameters
    if parameters is None:  # after a restart nothing else would say what it is owed
        turn.change(owed=(*_owed_to_others(turn, gun), GunSettings(gun.number, before)))
    turn.put(replace(gun, owed=parameters.board if parameters is not None else before, owed_retry_ms=0))


def _owed_to_others(turn: Turn, gun: Gun) -> tuple[GunSettings, ...]:
    return tuple(one for one in turn.state.owed if one.gun != gun.number)


def _pay(turn: Turn, gun: Gun) -> None:
    is_due = gun.owed is not None and not gun.is_being_set and turn.now.mono_ms >= gun.owed_retry_ms
    if gun.owed is not None and is_due and not gun.silent and _may_set(turn, gun, gun.owed):
        turn.put(replace(gun, is_being_set=True))
        turn.do(SetGun(gun.number, gun.owed))


def _paid(turn: Turn, gun: Gun, event: GunSet) -> None:
    if event.result is Result.OK:
        turn.change(owed=_owed_to_others(turn, gun))
        turn.put(replace(gun, owed=None if gun.owed == event.job.settings else gun.owed))
        return
    if gun.owed_retry_ms == 0:  # said once
        turn.note(gun.number, EventCode.BOARD_NOT_SET, f"gun {gun.number}: {event.text}")
    turn.put(replace(gun, owed_retry_ms=turn.now.mono_ms + OWED_RETRY_MS))
