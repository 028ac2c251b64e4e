"""What a charge costs: its ledger follows the meter, is kept every ten seconds, and becomes the bill at the end."""

from dataclasses import replace

from agent.pile.actions import Record
from agent.pile.board import GunReading
from agent.pile.ledger import Ledger, Unsure, advance, marked, open_ledger, unsure
from agent.pile.meter import Doubt, doubt_of, follow, is_set_anew
from agent.pile.money import energy_for_wh
from agent.pile.records import clear_alarm, raise_alarm
from agent.pile.state import Alarm, Gun, Phase, Session
from agent.pile.turn import Turn
from agent.protocol.commands import ChargingRecord, ProcessRecord
from agent.protocol.commands import Segment as SegmentRow
from agent.protocol.events import AlarmCode, EventCode
from agent.protocol.records import body_of
from agent.protocol.results import RecordType, StopReason

CHECKPOINT_MS = 10_000
PROCESS_MS = 60_000
LATENCY_MOST_MS = 10_000
RESUMED_MS = 60_000  # after a restart the meter may have counted for so long, whatever the clock says


def energy_limit_wh(session: Session) -> int | None:
    """What the board may deliver at most: the cap at the cheapest hour. The agent stops earlier, and exactly."""
    return energy_for_wh(session.cap_fen, session.tariff.cheapest) if session.cap_fen is not None else None


def follow_meter(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> Gun:
    """Bill what the meter has counted since its last reading; one that is missing or doubtful is not billed."""
    if reading.energy_wh is None:
        return gun
    if gun.ledger is None:
        gun, session = _open(turn, gun, session, reading)
    assert gun.ledger is not None
    ledger = gun.ledger if turn.now.is_sure else unsure(gun.ledger)
    read_mono_ms = _read_at(turn, reading)
    at_ms = _time_of(turn, gun, ledger, read_mono_ms)
    elapsed_ms = at_ms - ledger.segments[-1].end_ms
    if gun.ledger_mono_ms is None:
        elapsed_ms = max(elapsed_ms, RESUMED_MS)
    doubt = doubt_of(ledger.meter_wh, reading.energy_wh, elapsed_ms, turn.config.max_power_w)
    if doubt is not None:
        return _doubt(turn, gun, ledger, reading, doubt)
    if gun.doubtful is not None:
        clear_alarm(
            turn, Alarm(gun.number, AlarmCode.METER_DOUBTFUL.value), f"gun {gun.number}: the meter is good again"
        )
    ledger = advance(ledger, at_ms, reading.energy_wh, session.tariff, turn.config.utc_offset_s)
    ledger = marked(ledger, read_mono_ms)
    gun = turn.put(replace(gun, ledger=ledger, ledger_mono_ms=read_mono_ms, doubtful=None))
    return _keep_when_due(turn, gun, session)


def is_cap_near(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> bool:
    """The cap would be passed if current flowed on while a stop takes effect."""
    if session.cap_fen is None or gun.ledger is None:
        return False
    latency_ms = stop_latency_ms(turn, gun)
    coasting_wh = -(-(reading.power_w or 0) * latency_ms // 3_600_000)  # rounded up
    at_ms = gun.ledger.segments[-1].end_ms + latency_ms
    later_wh = gun.ledger.meter_wh + coasting_wh + 1
    later = advance(gun.ledger, at_ms, later_wh, session.tariff, turn.config.utc_offset_s)
    return later.total_fen > session.cap_fen


def stop_latency_ms(turn: Turn, gun: Gun) -> int:
    """From deciding a stop to no current: as measured at this gun, until then as configured."""
    return gun.stop_latency_ms if gun.stop_latency_ms is not None else turn.config.stop_latency_ms


def measured_latency_ms(turn: Turn, gun: Gun, session: Session) -> int | None:
    """The gun's stop latency with this stop in it: a slower one counts at once, a faster one by a quarter."""
    if session.phase is not Phase.STOPPING or gun.ledger is None:
        return gun.stop_latency_ms
    taken_ms = min(turn.now.mono_ms - gun.stop_ordered_ms, LATENCY_MOST_MS)
    return max(taken_ms, (3 * stop_latency_ms(turn, gun) + taken_ms) // 4)


def note_process(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> Gun:
    """A process record (104 type 2) each minute of a charge."""
    if turn.now.mono_ms < gun.process_due_ms or gun.ledger is None:
        return gun
    record = ProcessRecord(
        RecordType.PROCESS, 1, 1, session.order, gun.number, turn.now.wall_ms,
        reading.voltage_dv or 0, reading.current_da or 0, reading.power_w or 0, reading.soc_pct or 0,
        gun.ledger.energy_wh, gun.ledger.total_fen, reading.temperature_dc or 0,
    )  # fmt: skip
    turn.do(Record(RecordType.PROCESS, turn.now.wall_ms, gun.number, session.order, body_of(record)))
    return turn.put(replace(gun, process_due_ms=turn.now.mono_ms + PROCESS_MS))


def close_bill(turn: Turn, gun: Gun, session: Session, reason: StopReason) -> None:
    """The charging record (104 type 1) of an order that is over. Every accepted start yields one, a zero one too."""
    record = charging_record(gun, session, reason, turn.now.wall_ms)
    words = f"gun {gun.number}, order {session.order[:64]}: {record.energy_wh} Wh, {record.total_fen} fen"
    turn.do(Record(RecordType.CHARGING, record.end_ms, gun.number, session.order, body_of(record), words))
    if session.is_local:
        turn.change(offline_bills=turn.state.offline_bills + 1)
    if session.cap_fen is not None and record.total_fen > session.cap_fen:
        over_fen = record.total_fen - session.cap_fen
        turn.note(gun.number, EventCode.CAP_PASSED, f"{words}, {over_fen} fen beyond the cap", session.order)
    if not turn.now.trusted:
        turn.note(gun.number, EventCode.TIME_UNKNOWN, f"{words}; its times are not known", session.order)


def charging_record(gun: Gun, session: Session, reason: StopReason, now_ms: int) -> ChargingRecord:
    """The bill in the form of the wire."""
    ledger = gun.ledger
    meter_start_wh = session.meter_start_wh or 0
    total_fen = ledger.total_fen if ledger is not None else 0
    return ChargingRecord(
        type=RecordType.CHARGING,
        number=1,
        total=1,
        order=session.order,
        gun=gun.number,
        account=session.account,
        start_type=session.start_type,
        start_ms=ledger.segments[0].start_ms if ledger is not None else session.accepted_ms,
        end_ms=ledger.segments[-1].end_ms if ledger is not None else max(now_ms, session.accepted_ms),
        meter_start_wh=meter_start_wh,
        meter_end_wh=ledger.meter_wh if ledger is not None else meter_start_wh,
        energy_wh=ledger.energy_wh if ledger is not None else 0,
        stop_reason=reason.value,
        electricity_fen=ledger.electricity_fen if ledger is not None else 0,
        service_fen=ledger.service_fen if ledger is not None else 0,
        total_fen=total_fen,
        free_used_fen=min(session.free_fen, total_fen),
        offline=int(session.is_local),
        template=session.tariff.template,
        segments=_rows(ledger) if ledger is not None else (),
    )


def _rows(ledger: Ledger) -> tuple[SegmentRow, ...]:
    return tuple(
        SegmentRow(
            part.start_ms, part.end_ms, part.energy_wh, part.price.price, part.price.service_fee,
            part.electricity_fen, part.service_fen,
        )
        for part in ledger.segments
    )  # fmt: skip


def _open(turn: Turn, gun: Gun, session: Session, reading: GunReading) -> tuple[Gun, Session]:
    """The first reading with current. It counts from the last one before the start, where there was one."""
    assert reading.energy_wh is not None
    read_mono_ms = _read_at(turn, reading)
    meter_start_wh = session.meter_start_wh if session.meter_start_wh is not None else reading.energy_wh
    ledger = open_ledger(_wall_ms(turn, read_mono_ms), meter_start_wh, session.tariff, turn.config.utc_offset_s)
    if not turn.now.is_sure:  # all of it: nothing stands before
        ledger = marked(replace(ledger, unsure=Unsure()), read_mono_ms)
    session = replace(session, meter_start_wh=meter_start_wh, ledger=ledger)
    return turn.put(replace(gun, session=session, ledger=ledger, ledger_mono_ms=None)), session


def _read_at(turn: Turn, reading: GunReading) -> int:
    """When the meter was read, by the monotonic clock. Readings may have waited to be handled, while storage was slow:
    each belongs to the tariff period in which it was taken."""
    return min(reading.at_ms, turn.now.mono_ms)


def _wall_ms(turn: Turn, mono_ms: int) -> int:
    return turn.now.wall_ms - (turn.now.mono_ms - mono_ms)


def _time_of(turn: Turn, gun: Gun, ledger: Ledger, read_mono_ms: int) -> int:
    """The epoch time of a reading. Within one life of the agent the monotonic clock counts on from the last reading,
    so that setting the clock moves no energy into another tariff period. Nothing is put before the last stamp there is,
    whatever the clock says after a restart."""
    end_ms = ledger.segments[-1].end_ms
    if gun.ledger_mono_ms is not None:
        return end_ms + max(read_mono_ms - gun.ledger_mono_ms, 0)
    return max(_wall_ms(turn, read_mono_ms), end_ms)


def _doubt(turn: Turn, gun: Gun, ledger: Ledger, reading: GunReading, doubt: Doubt) -> Gun:
    """A reading that is not billed. Once the meter counts plausibly from its new value on, it is billed from there."""
    assert reading.energy_wh is not None
    text = f"gun {gun.number}: the meter {doubt.value} from {ledger.meter_wh} to {reading.energy_wh} Wh; not billed"
    raise_alarm(turn, Alarm(gun.number, AlarmCode.METER_DOUBTFUL.value), text)
    doubtful = follow(gun.doubtful, doubt, reading.energy_wh, _read_at(turn, reading), turn.config.max_power_w)
    if not is_set_anew(doubtful):
        return turn.put(replace(gun, doubtful=doubtful))
    return turn.put(replace(gun, ledger=replace(ledger, meter_wh=reading.energy_wh), doubtful=doubtful))


def _keep_when_due(turn: Turn, gun: Gun, session: Session) -> Gun:
    """Checkpoint: the ledger on disk every ten seconds and at each tariff boundary."""
    ledger = gun.ledger
    assert ledger is not None
    is_new_segment = session.ledger is None or len(ledger.segments) != len(session.ledger.segments)
    if turn.now.mono_ms < gun.checkpoint_due_ms and not is_new_segment:
        return gun
    due_ms = turn.now.mono_ms + CHECKPOINT_MS
    return turn.put(replace(gun, session=replace(session, ledger=ledger), checkpoint_due_ms=due_ms))
