"""What ``pile-agent status`` shows: a snapshot of the running agent as JSON-ready values."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.config import Config
from agent.desk import Desk
from agent.pile.board import GunReading
from agent.pile.firmware import Upgrade
from agent.pile.parameters import Parameters
from agent.pile.state import Gun, Session
from agent.pile.status import status_of

if TYPE_CHECKING:
    from agent.link.link import LinkState


def snapshot(
    config: Config, desk: Desk, link: "LinkState", outbox_waiting: int, lines: list[dict[str, object]]
) -> dict[str, object]:
    """Everything, from the pile's number down to each gun's last reading."""
    time_now = desk.clock.now()
    state = desk.state
    return {
        "pile": config.pile.pile,
        "version": config.pile.version,
        "uptime_s": (time_now.mono_ms - state.started_ms) // 1000,
        "clock_trusted": time_now.trusted,
        "clock_estimated": time_now.is_estimate,
        "link": asdict(link),
        "outbox": outbox_waiting,
        "journal": desk.storage_fault,
        "messages": dict(desk.counters),
        "guns": [_gun(gun, time_now.mono_ms) for gun in state.guns.values()],
        "lines": lines,
        "site": asdict(state.site) if state.site is not None else None,
        "parameters": _parameters(state.parameters) if state.parameters is not None else None,
        "reservations": [asdict(one) for one in state.reservations],
        "is_configuring": state.configuring is not None,
        "upgrade": _upgrade(state.upgrade, state.upgrade_percent) if state.upgrade is not None else None,
    }


def _parameters(parameters: Parameters) -> dict[str, object]:
    """Without the hash of the screen's password."""
    values = asdict(parameters)
    del values["screen_login"]
    return values


def _upgrade(upgrade: Upgrade, percent: int) -> dict[str, object]:
    return {
        "record_id": upgrade.ticket.record_id,
        "version": upgrade.version,
        "kind": upgrade.image.kind.value if upgrade.image is not None else None,
        "stage": upgrade.stage.value,
        "percent": percent,
        "text": upgrade.text,
    }


def _gun(gun: Gun, mono_ms: int) -> dict[str, object]:
    return {
        "gun": gun.number,
        "status": status_of(gun, mono_ms).name.lower(),
        "session": _session(gun, gun.session) if gun.session else None,
        "reading": _reading(gun.reading, mono_ms) if gun.reading else None,
    }


def _session(gun: Gun, session: Session) -> dict[str, object]:
    return {
        "order": session.order,
        "phase": session.phase.value,
        "template": session.tariff.template,
        "energy_wh": gun.ledger.energy_wh if gun.ledger is not None else 0,
        "total_fen": gun.ledger.total_fen if gun.ledger is not None else 0,
        "cap_fen": session.cap_fen,
    }


def _reading(reading: GunReading, mono_ms: int) -> dict[str, object]:
    values = asdict(reading) | {"state": reading.state.value}
    del values["at_ms"], values["gun"]
    return values | {"age_ms": mono_ms - reading.at_ms}
