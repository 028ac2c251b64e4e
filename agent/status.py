"""What ``pile-agent status`` shows: a snapshot of the running agent as JSON-ready values."""

from dataclasses import asdict

from agent.clock import now
from agent.config import Config
from agent.desk import Desk
from agent.link.link import LinkState
from agent.pile.board import GunReading
from agent.pile.state import Gun, Session
from agent.pile.status import status_of


def snapshot(
    config: Config, desk: Desk, link: LinkState, outbox_waiting: int, lines: list[dict[str, object]]
) -> dict[str, object]:
    """Everything, from the pile's number down to each gun's last reading."""
    time_now = now()
    state = desk.state
    return {
        "pile": config.pile.pile,
        "version": config.pile.version,
        "uptime_s": (time_now.mono_ms - state.started_ms) // 1000,
        "clock_trusted": time_now.trusted,
        "link": asdict(link),
        "outbox": outbox_waiting,
        "messages": dict(desk.counters),
        "guns": [_gun(gun, time_now.mono_ms) for gun in state.guns.values()],
        "lines": lines,
    }


def _gun(gun: Gun, mono_ms: int) -> dict[str, object]:
    return {
        "gun": gun.number,
        "status": status_of(gun, mono_ms).name.lower(),
        "session": _session(gun.session, gun.reading) if gun.session else None,
        "reading": _reading(gun.reading, mono_ms) if gun.reading else None,
    }


def _session(session: Session, reading: GunReading | None) -> dict[str, object]:
    energy_wh = reading.energy_wh if reading is not None else None
    used_wh = (
        energy_wh - session.meter_start_wh if energy_wh is not None and session.meter_start_wh is not None else None
    )
    return {"order": session.order, "phase": session.phase.value, "energy_wh": used_wh, "cap_wh": session.cap_wh}


def _reading(reading: GunReading, mono_ms: int) -> dict[str, object]:
    values = asdict(reading) | {"state": reading.state.value}
    del values["at_ms"], values["gun"]
    return values | {"age_ms": mono_ms - reading.at_ms}
