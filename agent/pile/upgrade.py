"""The course of an upgrade, from the first byte fetched to the version in force, or to why not.

``STAGES`` in agent/pile/firmware.py has the stages; each function below leads from one to the next. Whatever ends an
upgrade goes through ``_finish``. A restart of the agent goes on in ``resume``.
"""

from dataclasses import replace

from agent.pile.actions import AskInstaller, DropFirmware, FetchFirmware, FlashBoard, RestartAgent
from agent.pile.events import FirmwareFailed, FirmwareFetched, FirmwareProgress, FlashDone, InstallerAnswered
from agent.pile.firmware import LOCKED, NO_BOOT, Boot, Kind, PastUpgrade, Stage, Step, Upgrade
from agent.pile.status import FLOWING
from agent.pile.turn import Turn
from agent.protocol.commands import PackageReply, UpdateReport
from agent.protocol.events import EventCode
from agent.protocol.results import Result, UpdateState

TICKET_MS = 3600_000  # a 113 whose 114 has not come by then is forgotten, and its login with it
PATIENCE_MS = 4 * 3600_000  # so long charges may still begin while an upgrade waits for idle guns
GATE_MS = 120_000  # a release on trial must have shown by then that it works
SETTLE_MS = 60_000  # after a start: what does not work by then is taken for what did not work before the trial either
COMMIT_RETRY_MS = 30_000
MOST_COMMITS = 5
ANSWER_MS = 700_000  # an installer that has not answered by then is asked again
MOST_RESTARTS = 3  # that were to begin a trial and did not
PROGRESS_STEP = 10  # percent between two unasked reports of a stage's progress
PROGRESS_MS = 1000  # and at least so much time
PAST_KEPT = 32


# ---- the file ----


def progressed(turn: Turn, event: FirmwareProgress) -> None:
    upgrade = _at(turn, Stage.DOWNLOADING, Stage.VERIFYING)
    if upgrade is None or upgrade.ticket.record_id != event.record_id:
        return
    stage = Stage.VERIFYING if event.is_verifying else Stage.DOWNLOADING
    if stage is not upgrade.stage:
        enter(turn, replace(upgrade, stage=stage))
    _set_percent(turn, event.percent)


def fetched(turn: Turn, event: FirmwareFetched) -> None:
    """The file is here and proved: an agent's release is staged, a board's image waits for idle guns."""
    upgrade = _at(turn, Stage.DOWNLOADING, Stage.VERIFYING)
    if upgrade is None or upgrade.ticket.record_id != event.record_id:
        return
    upgrade = replace(upgrade, image=event.image)
    if event.image.kind is Kind.POWER_BOARD:
        _wait(turn, upgrade)
    elif event.image.version == turn.config.version:
        _finish(turn, upgrade, Stage.COMMITTED, Result.OK, "it was running already")
    else:
        enter(turn, replace(upgrade, stage=Stage.STAGING))
        turn.do(AskInstaller(Step.STAGE, upgrade))


def failed(turn: Turn, event: FirmwareFailed) -> None:
    upgrade = _at(turn, Stage.DOWNLOADING, Stage.VERIFYING)
    if upgrade is not None and upgrade.ticket.record_id == event.record_id:
        _finish(turn, upgrade, Stage.FAILED, event.result, event.text)


# ---- idle guns, and what waits for them ----


def _wait(turn: Turn, upgrade: Upgrade) -> None:
    upgrade = replace(upgrade, stage=Stage.WAITING)
    enter(turn, upgrade, PATIENCE_MS)
    if not _is_idle(turn):
        turn.reply(upgrade.request, Result.DEFERRED, PackageReply(upgrade.ticket.record_id, upgrade.version))


def go_on(turn: Turn) -> None:
    """Once nothing charges, nothing is rebooted and nothing is being set: the new version's turn."""
    upgrade = _at(turn, Stage.WAITING)
    if upgrade is not None and _has_settled(turn) and _is_idle(turn):
        assert upgrade.image is not None
        if upgrade.image.kind is Kind.POWER_BOARD:
            _flash(turn, replace(upgrade, stage=Stage.FLASHING))
        else:
            _arm(turn, upgrade)
    _lock_guns(turn)


def _has_settled(turn: Turn) -> bool:
    """After a restart it takes a moment until it shows which guns charge, and what works that a trial must keep."""
    state = turn.state
    is_heard = state.connected and not any(gun.silent for gun in state.guns.values())
    return is_heard or turn.now.mono_ms - state.started_ms >= SETTLE_MS


def _is_idle(turn: Turn) -> bool:
    state = turn.state
    is_busy = state.pending_reboot or state.rebooting or state.configuring
    return not is_busy and all(
        gun.session is None and not gun.is_being_set and (gun.reading is None or gun.reading.state not in FLOWING)
        for gun in state.guns.values()
    )


def _lock_guns(turn: Turn) -> None:
    is_locked = turn.state.upgrade is not None and turn.state.upgrade.stage in LOCKED
    for gun in list(turn.state.guns.values()):
        if gun.is_locked != is_locked:
            turn.put(replace(gun, is_locked=is_locked))


def keeps_from_charging(turn: Turn) -> bool:
    """A charge must not begin: the guns are locked, or an upgrade has waited for idle guns for long enough."""
    upgrade = turn.state.upgrade
    if upgrade is None:
        return False
    has_waited = upgrade.stage is Stage.WAITING and turn.now.mono_ms >= turn.state.upgrade_due_ms
    return has_waited or upgrade.stage in LOCKED


# ---- the agent itself ----


def _arm(turn: Turn, upgrade: Upgrade) -> None:
    """What works now must work in the trial too."""
    answering = tuple(gun.number for gun in turn.state.guns.values() if not gun.silent)
    upgrade = replace(upgrade, stage=Stage.ARMING, was_connected=turn.state.connected, answering=answering)
    enter(turn, upgrade)
    turn.do(AskInstaller(Step.ARM, upgrade))


def installer_answered(turn: Turn, event: InstallerAnswered) -> None:
    """The installer has staged, armed or committed; or could not."""
    expected = {Step.STAGE: Stage.STAGING, Step.ARM: Stage.ARMING, Step.COMMIT: Stage.COMMITTING}.get(event.do)
    upgrade = _at(turn, expected) if expected is not None else None
    if upgrade is None:
        return
    if event.do is Step.COMMIT:
        _committed(turn, upgrade, event)
    elif event.result is not Result.OK:
        _finish(turn, upgrade, Stage.FAILED, event.result, event.text)
    elif event.do is Step.STAGE:
        _wait(turn, upgrade)
    else:
        turn.change(upgrade=replace(upgrade, restarts=upgrade.restarts + 1))
        turn.do(RestartAgent())


def _committed(turn: Turn, upgrade: Upgrade, event: InstallerAnswered) -> None:
    """A commit that fails is tried again some times. Then a release on trial goes back; what is in force stays."""
    if event.result is Result.OK:
        _finish(turn, upgrade, Stage.COMMITTED, Result.OK, "")
    elif upgrade.commits < MOST_COMMITS:
        turn.change(upgrade_due_ms=turn.now.mono_ms + COMMIT_RETRY_MS)
    elif upgrade.in_force:
        _finish(turn, upgrade, Stage.COMMITTED, Result.OK, f"not made final: {event.text}")
    else:
        turn.do(RestartAgent(f"could not be made final: {event.text}"))


def resume(turn: Turn, boot: Boot = NO_BOOT) -> None:
    """After a restart: go on where the last durable stage says."""
    if not turn.config.can_update:
        _resume_without_place(turn)
        return
    upgrade = turn.state.upgrade
    if upgrade is None or upgrade.is_over:
        _tidy_up(turn, upgrade, boot)
        return
    turn.change(upgrade_due_ms=turn.now.mono_ms + GATE_MS)
    match upgrade.stage:
        case Stage.DOWNLOADING | Stage.VERIFYING:
            turn.do(FetchFirmware(upgrade))
        case Stage.STAGING:
            turn.do(AskInstaller(Step.STAGE, upgrade))
        case Stage.WAITING:
            turn.change(upgrade_due_ms=turn.now.mono_ms + PATIENCE_MS)
        case Stage.FLASHING:
            _flash(turn, upgrade)
        case Stage.ARMING | Stage.TRIAL | Stage.COMMITTING:
            _resume_trial(turn, upgrade, boot)


def _resume_without_place(turn: Turn) -> None:
    """The configuration has lost ``firmware.install_dir``, and with it what was under way."""
    upgrade = turn.state.upgrade
    turn.change(ticket=None)
    if upgrade is not None and not upgrade.is_over:
        _finish(turn, upgrade, Stage.FAILED, Result.NOT_SUPPORTED, "firmware.install_dir is not set any more")


def _tidy_up(turn: Turn, upgrade: Upgrade | None, boot: Boot) -> None:
    """No upgrade is under way: what one left that was killed at its very end must not stay, least of all a login or a
    trial that nobody would end."""
    if turn.state.ticket is not None:
        turn.change(ticket_until_ms=turn.now.mono_ms + TICKET_MS)
    else:
        _drop_files(turn)
    if boot.trial and boot.trial == turn.config.version:
        turn.do(RestartAgent("it is on trial for an upgrade that is over"))
    elif upgrade is not None and boot.trial == upgrade.version:
        turn.do(AskInstaller(Step.DROP, upgrade))


def _resume_trial(turn: Turn, upgrade: Upgrade, boot: Boot) -> None:
    """Which release runs says how the trial went, or that it begins. A board's commit just goes on, and that of a
    release which is no longer on trial."""
    assert upgrade.image is not None
    failure = boot.failure(upgrade.version)
    if upgrade.image.kind is Kind.POWER_BOARD or boot.current == upgrade.version == turn.config.version:
        _commit(turn, replace(upgrade, in_force=True))
    elif turn.config.version == upgrade.version:
        enter(turn, replace(upgrade, stage=Stage.TRIAL), GATE_MS)
    elif failure:
        _finish(turn, upgrade, Stage.ROLLED_BACK, Result.ROLLED_BACK, failure)
    elif upgrade.stage is not Stage.ARMING:
        _finish(turn, upgrade, Stage.ROLLED_BACK, Result.ROLLED_BACK, f"{turn.config.version} was started instead")
    elif upgrade.restarts >= MOST_RESTARTS:
        text = f"{upgrade.restarts} restarts did not begin the trial: is the agent started by the launcher?"
        _finish(turn, upgrade, Stage.FAILED, Result.INSTALL_FAILED, text)
    else:
        turn.do(AskInstaller(Step.ARM, upgrade))


def _gate_lacks(turn: Turn, upgrade: Upgrade) -> str:
    """What worked before and has not shown yet that it works in the trial; empty once everything has. The journal is
    open, or the agent would not run."""
    guns = [turn.state.guns[number] for number in upgrade.answering if number in turn.state.guns]
    silent = [str(gun.number) for gun in guns if gun.silent or gun.reading is None]
    lacking = []
    if upgrade.was_connected and not turn.state.connected:
        lacking.append("the broker is not reached")
    if silent:
        lacking.append(f"the power board of gun {', '.join(silent)} does not answer")
    return " and ".join(lacking)


def _pass_gate(turn: Turn, upgrade: Upgrade) -> None:
    lacking = _gate_lacks(turn, upgrade)
    if not lacking:
        _commit(turn, upgrade)
    elif turn.now.mono_ms >= turn.state.upgrade_due_ms:
        turn.do(RestartAgent(f"{lacking} within {GATE_MS // 1000} s"))


def _commit(turn: Turn, upgrade: Upgrade) -> None:
    upgrade = replace(upgrade, stage=Stage.COMMITTING)
    enter(turn, upgrade)
    _ask_to_commit(turn, upgrade)


def _ask_to_commit(turn: Turn, upgrade: Upgrade) -> None:
    """The next try is due once the installer has had its time."""
    turn.change(upgrade=replace(upgrade, commits=upgrade.commits + 1), upgrade_due_ms=turn.now.mono_ms + ANSWER_MS)
    turn.do(AskInstaller(Step.COMMIT, upgrade))


# ---- the power board ----


def _flash(turn: Turn, upgrade: Upgrade) -> None:
    image = upgrade.image
    assert image is not None
    enter(turn, upgrade)
    last_good = next((one for one in turn.state.board_images if one.hardware == image.hardware), None)
    turn.do(FlashBoard(image, upgrade.packet_bytes, last_good))


def flash_progressed(turn: Turn, percent: int) -> None:
    if _at(turn, Stage.FLASHING) is not None:
        _set_percent(turn, percent)


def flashed(turn: Turn, event: FlashDone) -> None:
    """The boards run the new image, which is then the last good one; or they run another."""
    upgrade = _at(turn, Stage.FLASHING)
    if upgrade is None:
        return
    if event.result is not Result.OK:
        _finish(turn, upgrade, Stage.FAILED, event.result, event.text)
        return
    assert upgrade.image is not None
    others = tuple(one for one in turn.state.board_images if one.hardware != upgrade.image.hardware)
    turn.change(board_images=(*others, upgrade.image))
    _commit(turn, replace(upgrade, in_force=True))


# ---- time, and the end ----


def time_passed(turn: Turn) -> None:
    now_ms = turn.now.mono_ms
    if turn.state.ticket is not None and now_ms >= turn.state.ticket_until_ms:
        forget_ticket(turn)
    upgrade = turn.state.upgrade
    if upgrade is None:
        return
    if upgrade.stage is Stage.TRIAL:
        _pass_gate(turn, upgrade)
    elif upgrade.stage is Stage.COMMITTING and now_ms >= turn.state.upgrade_due_ms:
        _ask_to_commit(turn, upgrade)


def _finish(turn: Turn, upgrade: Upgrade, stage: Stage, result: Result, text: str) -> None:
    """It is over, one way or the other: the 114 gets its final reply, and what is not needed any more goes."""
    enter(turn, replace(upgrade, stage=stage, result=result, text=text))
    record_id, version = upgrade.ticket.record_id, upgrade.version
    if result is Result.OK:
        turn.reply(upgrade.request, Result.OK, PackageReply(record_id, version))
        turn.note(0, EventCode.UPGRADE_DONE, f"record {record_id}: version {version} is in force{_brackets(text)}")
    else:
        turn.reply(upgrade.request, result, text)
        turn.note(0, EventCode.UPGRADE_FAILED, f"record {record_id}: version {version}: {text}")
    kind = upgrade.image.kind.value if upgrade.image is not None else ""
    past = PastUpgrade(record_id, kind, version, upgrade.ordered_ms, turn.now.wall_ms, result, text)
    turn.change(past_upgrades=(*turn.state.past_upgrades, past)[-PAST_KEPT:])
    if result is not Result.OK and kind == Kind.AGENT:
        turn.do(AskInstaller(Step.DROP, upgrade))
    _drop_files(turn)


def _brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _drop_files(turn: Turn) -> None:
    turn.do(DropFirmware(tuple(image.path for image in turn.state.board_images)))


def _at(turn: Turn, *stages: Stage) -> Upgrade | None:
    """The upgrade, if it is at one of those stages."""
    upgrade = turn.state.upgrade
    return upgrade if upgrade is not None and upgrade.stage in stages else None


def enter(turn: Turn, upgrade: Upgrade, due_in_ms: int = 0) -> None:
    """The upgrade as it is now; the platform is told when what 111 says has changed."""
    before = turn.state.upgrade
    turn.change(
        upgrade=upgrade,
        upgrade_percent=0,
        upgrade_told=(0, turn.now.mono_ms),
        upgrade_due_ms=turn.now.mono_ms + due_in_ms,
    )
    is_new = before is None or before.request != upgrade.request
    if before is None or is_new or before.state != upgrade.state:
        turn.report(111, report_of(turn), durable=True)


def _set_percent(turn: Turn, percent: int) -> None:
    """Told unasked in steps; lost while the link is down, for it would be stale."""
    turn.change(upgrade_percent=percent)
    told, told_ms = turn.state.upgrade_told
    if percent // PROGRESS_STEP != told // PROGRESS_STEP and turn.now.mono_ms - told_ms >= PROGRESS_MS:
        turn.change(upgrade_told=(percent, turn.now.mono_ms))
        turn.report(111, report_of(turn), durable=False)


def report_of(turn: Turn) -> UpdateReport:
    """A 113 that waits for its 114 is news of a new record: nothing of it has begun."""
    upgrade, ticket = turn.state.upgrade, turn.state.ticket
    if ticket is not None:
        return UpdateReport(ticket.record_id, turn.config.version, UpdateState.NONE.value, 0)
    if upgrade is None:
        return UpdateReport("", turn.config.version, UpdateState.NONE.value, 0)
    percent = 100 if upgrade.stage is Stage.COMMITTED else turn.state.upgrade_percent
    return UpdateReport(upgrade.ticket.record_id, upgrade.version, upgrade.state, percent)


def forget_ticket(turn: Turn) -> None:
    turn.change(ticket=None)
    _drop_files(turn)
