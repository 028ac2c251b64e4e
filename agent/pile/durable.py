"""What of the state outlives the process: as parts under keys, each a JSON value, and back."""

from dataclasses import replace
from typing import Any

from agent.pile.firmware import ImageFile, PastUpgrade, Ticket, Upgrade
from agent.pile.parameters import GunSettings, Parameters, Reservation, Server, Site
from agent.pile.parts import from_json, to_json
from agent.pile.state import (
    Alarm,
    Configuring,
    Gun,
    GunTariff,
    KnownTime,
    Now,
    PastOrder,
    PendingReboot,
    Phase,
    PileConfig,
    PileState,
    Replay,
    Request,
    Session,
    Settings,
    new_state,
)

JsonValue = Any
GUN_PREFIX = "gun/"
SET_BY_PLATFORM = {
    "tariffs": tuple[GunTariff, ...],
    "reservations": tuple[Reservation, ...],
    "site": Site,
    "parameters": Parameters,
    "server": Server,
    "configuring": Configuring,
    "owed": tuple[GunSettings, ...],
    "ticket": Ticket,
    "upgrade": Upgrade,
    "past_upgrades": tuple[PastUpgrade, ...],
    "board_images": tuple[ImageFile, ...],
}
RESUME_MS = 5000  # a restarted agent asks the boards before it calls a start too late


def changed_parts(old: PileState | None, new: PileState) -> dict[str, JsonValue]:
    """The durable parts of ``new`` that ``old`` did not have so; ``None`` for a part that is no more."""
    before = _parts(old) if old is not None else {}
    return {key: to_json(part) for key, part in _parts(new).items() if key not in before or before[key] is not part}


def durable_keys() -> tuple[str, ...]:
    """The keys of all parts but the guns', which begin with ``GUN_PREFIX``."""
    return tuple(_parts(PileState({})))


def restore(config: PileConfig, parts: dict[str, JsonValue], now: Now) -> PileState:
    """The state that ``parts`` remember. A stop gets its time anew, a start only what is left of it."""
    state = new_state(config, now)
    time = from_json(KnownTime, parts.get("time"))
    guns = {
        number: _restore_gun(config, gun, parts.get(f"{GUN_PREFIX}{number}"), time, now)
        for number, gun in state.guns.items()
    }
    set_by_platform = _set_by_platform(parts)
    for one in set_by_platform.get("owed", ()):
        if one.gun in guns:
            guns[one.gun] = replace(guns[one.gun], owed=one.settings)
    replay = from_json(Replay, parts.get("replay"))
    alarms = from_json(tuple[Alarm, ...], parts.get("alarms") or [])
    return replace(
        state,
        guns=guns,
        time=time,
        settings=from_json(Settings, parts.get("settings")) or state.settings,
        past_orders=from_json(tuple[PastOrder, ...], parts.get("past_orders") or []),
        pending_reboot=from_json(PendingReboot, parts.get("pending_reboot")),
        versions_requests=from_json(tuple[Request, ...], parts.get("versions_requests") or []),
        alarms=tuple(alarm for alarm in alarms if alarm.gun in (0, *guns)),
        offline_bills=parts.get("offline_bills") or 0,
        replay=replay,
        replay_kept=replay,
        **set_by_platform,
    )


def _set_by_platform(parts: dict[str, JsonValue]) -> dict[str, Any]:
    """A server that was being tried is tried again."""
    found = {name: from_json(kind, parts[name]) for name, kind in SET_BY_PLATFORM.items() if parts.get(name)}
    if "configuring" in found:
        found["configuring"] = replace(found["configuring"], is_trying=False)
    return found


def _parts(state: PileState) -> dict[str, object]:
    parts: dict[str, object] = {f"{GUN_PREFIX}{number}": gun.session for number, gun in state.guns.items()}
    return parts | {
        "time": state.time,
        "settings": state.settings,
        "past_orders": state.past_orders,
        "pending_reboot": state.pending_reboot,
        "versions_requests": state.versions_requests,
        "alarms": state.alarms,
        "offline_bills": state.offline_bills,
        "replay": state.replay_kept,
        **{name: getattr(state, name) for name in SET_BY_PLATFORM},
    }


def _restore_gun(config: PileConfig, gun: Gun, part: JsonValue, time: KnownTime | None, now: Now) -> Gun:
    if not part:
        return gun
    session: Session = from_json(Session, part)
    deadline_ms = now.mono_ms + _time_left_ms(config, session, time, now)
    return replace(gun, session=session, ledger=session.ledger, stop_ordered_ms=now.mono_ms, deadline_ms=deadline_ms)


def _time_left_ms(config: PileConfig, session: Session, time: KnownTime | None, now: Now) -> int:
    if session.phase is not Phase.STARTING:
        return config.stop_timeout_s * 1000
    if session.accepted_mono_ms is not None and time is not None and time.boot == now.boot:
        gone_ms = now.mono_ms - session.accepted_mono_ms
    else:
        gone_ms = now.wall_ms - session.accepted_ms if now.trusted else 0
    return max(config.start_timeout_s * 1000 - max(gone_ms, 0), RESUME_MS)
