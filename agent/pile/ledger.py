"""What a charge has delivered so far, split at every tariff boundary to the watt-hour (docs/protocol.md, "Money")."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.pile.money import Price, amount_fen
from agent.pile.tariff import Tariff
from agent.version import RELEASED_MS

MARK_MS = 300_000  # between two marks energy is taken to have flowed evenly, should it have to be priced anew


@dataclass(frozen=True, slots=True)
class Segment:
    """The energy delivered between two times at one price. Times are epoch ms, half open."""

    start_ms: int
    end_ms: int
    energy_wh: int
    price: Price

    @property
    def electricity_fen(self) -> int:
        return amount_fen(self.energy_wh, self.price.price)

    @property
    def service_fen(self) -> int:
        return amount_fen(self.energy_wh, self.price.service_fee)


@dataclass(frozen=True, slots=True)
class Mark:
    """So much energy the charge had had at a time of the boot's monotonic clock."""

    mono_ms: int
    energy_wh: int


@dataclass(frozen=True, slots=True)
class Unsure:
    """What of a ledger was stamped while the time was not sure (docs/adr/0013-time.md): all that follows ``before``, by
    the ``marks``, the last of which is the last reading."""

    before: tuple[Segment, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Segments without a gap, and the meter reading at the end of the last one."""

    segments: tuple[Segment, ...]
    meter_wh: int
    unsure: Unsure | None = None

    @property
    def energy_wh(self) -> int:
        return sum(segment.energy_wh for segment in self.segments)

    @property
    def electricity_fen(self) -> int:
        return sum(segment.electricity_fen for segment in self.segments)

    @property
    def service_fen(self) -> int:
        return sum(segment.service_fen for segment in self.segments)

    @property
    def total_fen(self) -> int:
        """The sum of the rounded parts, so that a bill re-adds."""
        return self.electricity_fen + self.service_fen


def open_ledger(at_ms: int, meter_wh: int, tariff: Tariff, utc_offset_s: int) -> Ledger:
    """A charge begins, with the meter at ``meter_wh``."""
    price = tariff.price_at(at_ms + utc_offset_s * 1000)
    return Ledger((Segment(at_ms, at_ms, 0, price),), meter_wh)


def advance(ledger: Ledger, at_ms: int, meter_wh: int, tariff: Tariff, utc_offset_s: int) -> Ledger:
    """The ledger at a later meter reading. Between two readings energy is taken to have flowed evenly.

    Raises ``ValueError`` for a reading that goes back, in energy or in time: whoever reads meters sorts those out.
    """
    last = ledger.segments[-1]
    if meter_wh < ledger.meter_wh or at_ms < last.end_ms:
        raise ValueError(f"meter {meter_wh} Wh at {at_ms}: expected from {ledger.meter_wh} Wh at {last.end_ms} on")
    segments = list(ledger.segments)
    for part in _split(last.end_ms, at_ms, meter_wh - ledger.meter_wh, tariff, utc_offset_s):
        if part.price == segments[-1].price:
            segments[-1] = replace(segments[-1], end_ms=part.end_ms, energy_wh=segments[-1].energy_wh + part.energy_wh)
        else:
            segments.append(part)
    return replace(ledger, segments=tuple(segments), meter_wh=meter_wh)


# ---- times that are not sure ----


def unsure(ledger: Ledger) -> Ledger:
    """What follows is stamped while the time is not sure."""
    return ledger if ledger.unsure is not None else replace(ledger, unsure=Unsure(ledger.segments))


def settled(ledger: Ledger) -> Ledger:
    """Its times are sure now, or never will be."""
    return replace(ledger, unsure=None)


def marked(ledger: Ledger, mono_ms: int) -> Ledger:
    """The ledger's end was read at ``mono_ms``: noted where its times are not sure. Of marks close to each other the
    later one counts, but for the first."""
    if ledger.unsure is None:
        return ledger
    marks = ledger.unsure.marks
    kept = marks[:-1] if len(marks) > 1 and mono_ms - marks[-2].mono_ms < MARK_MS else marks
    return replace(ledger, unsure=replace(ledger.unsure, marks=(*kept, Mark(mono_ms, ledger.energy_wh))))


def stamped_anew(ledger: Ledger, ahead_ms: int, tariff: Tariff, utc_offset_s: int) -> Ledger:
    """The ledger as it would be, had it been known that the wall clock is so far ahead of the monotonic one."""
    stamped = ledger.unsure or Unsure(ledger.segments)
    before = _before_the_boot(stamped.before, ahead_ms)
    begin = before or open_ledger(stamped.marks[0].mono_ms + ahead_ms, 0, tariff, utc_offset_s).segments
    anew = Ledger(begin, sum(segment.energy_wh for segment in begin))  # its meter counts the charge alone
    for mark in stamped.marks:
        at_ms = max(mark.mono_ms + ahead_ms, anew.segments[-1].end_ms)
        anew = advance(anew, at_ms, mark.energy_wh, tariff, utc_offset_s)
    return Ledger(anew.segments, ledger.meter_wh, replace(stamped, before=before))


def _before_the_boot(segments: tuple[Segment, ...], boot_ms: int) -> tuple[Segment, ...]:
    """Segments of an earlier boot that never knew the time: all there is to say is that they end before this one."""
    if not segments or segments[0].start_ms >= RELEASED_MS:
        return segments
    by_ms = boot_ms - segments[-1].end_ms
    return tuple(replace(one, start_ms=one.start_ms + by_ms, end_ms=one.end_ms + by_ms) for one in segments)


def _split(from_ms: int, to_ms: int, energy_wh: int, tariff: Tariff, utc_offset_s: int) -> Iterator[Segment]:
    """The parts of one interval, cut where a tariff period begins. They add up to ``energy_wh`` whatever is cut."""
    offset_ms = utc_offset_s * 1000
    length_ms = to_ms - from_ms
    start_ms, given_wh = from_ms, 0
    while True:
        end_ms = min(tariff.boundary_after(start_ms + offset_ms) - offset_ms, to_ms)
        reached_wh = energy_wh * (end_ms - from_ms) // length_ms if length_ms else energy_wh
        yield Segment(start_ms, end_ms, reached_wh - given_wh, tariff.price_at(start_ms + offset_ms))
        if end_ms >= to_ms:
            return
        start_ms, given_wh = end_ms, reached_wh
