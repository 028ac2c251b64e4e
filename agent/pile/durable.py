"""What of the state outlives the process: as parts under keys, each a JSON value, and back."""

from dataclasses import asdict, replace
from typing import Any

from agent.pile.money import Price
from agent.pile.state import (
    Gun,
    Now,
    PastOrder,
    PendingReboot,
    Phase,
    PileConfig,
    PileState,
    Request,
    Session,
    Settings,
    new_state,
)
from agent.protocol.results import Result, StopReason

JsonValue = Any
GUN_PREFIX = "gun/"


def changed_parts(old: PileState | None, new: PileState) -> dict[str, JsonValue]:
    """The durable parts of ``new`` that ``old`` did not have so; ``None`` for a part that is no more."""
    before = _parts(old) if old is not None else {}
    return {key: _to_json(part) for key, part in _parts(new).items() if key not in before or before[key] is not part}


def restore(config: PileConfig, parts: dict[str, JsonValue], now: Now) -> PileState:
    """The state that ``parts`` remember. A stop gets its time anew, a start only what is left of it."""
    state = new_state(config, now)
    guns = {
        number: _restore_gun(config, gun, parts.get(f"{GUN_PREFIX}{number}"), now) for number, gun in state.guns.items()
    }
    settings, reboot = parts.get("settings"), parts.get("pending_reboot")
    return replace(
        state,
        guns=guns,
        settings=Settings(**settings) if settings else state.settings,
        past_orders=tuple(_past_order(one) for one in parts.get("past_orders") or ()),
        pending_reboot=PendingReboot(Request(**reboot["request"]), reboot["gun"]) if reboot else None,
        versions_requests=tuple(Request(**one) for one in parts.get("versions_requests") or ()),
    )


def _parts(state: PileState) -> dict[str, object]:
    parts: dict[str, object] = {f"{GUN_PREFIX}{number}": gun.session for number, gun in state.guns.items()}
    return parts | {
        "settings": state.settings,
        "past_orders": state.past_orders,
        "pending_reboot": state.pending_reboot,
        "versions_requests": state.versions_requests,
    }


def _to_json(part: Any) -> JsonValue:
    if part is None:
        return None
    return [asdict(one) for one in part] if isinstance(part, tuple) else asdict(part)


def _restore_gun(config: PileConfig, gun: Gun, part: JsonValue, now: Now) -> Gun:
    if not part:
        return gun
    session = _session(part)
    return replace(gun, session=session, deadline_ms=now.mono_ms + _time_left_ms(config, session, now))


def _time_left_ms(config: PileConfig, session: Session, now: Now) -> int:
    if session.phase is not Phase.STARTING:
        return config.stop_timeout_s * 1000
    gone_ms = now.wall_ms - session.accepted_ms if now.trusted else 0
    return max(config.start_timeout_s * 1000 - max(gone_ms, 0), 0)


def _session(part: JsonValue) -> Session:
    reason = part["stop_reason"]
    fields = part | {
        "phase": Phase(part["phase"]),
        "price": Price(**part["price"]),
        "start_request": Request(**part["start_request"]) if part["start_request"] else None,
        "stop_reason": StopReason(reason) if reason is not None else None,
        "stop_requests": tuple(Request(**one) for one in part["stop_requests"]),
    }
    return Session(**fields)


def _past_order(part: JsonValue) -> PastOrder:
    reason = part["stop_reason"]
    return PastOrder(
        part["order"], part["gun"], Result(part["result"]), StopReason(reason) if reason is not None else None
    )
