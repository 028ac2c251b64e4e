"""The publishes the broker has not acknowledged yet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InFlight:
    row_id: int | None  # None: presence or a report, which nobody waits for
    topic: str
    sent_at: float


class Window:
    """Publishes in flight by their MQTT packet id, oldest first; ``size`` is the most there may be."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._in_flight: dict[int, InFlight] = {}

    @property
    def room(self) -> int:
        return max(self.size - len(self._in_flight), 0)

    @property
    def oldest(self) -> InFlight | None:
        return next(iter(self._in_flight.values()), None)

    def add(self, packet_id: int, publish: InFlight) -> None:
        self._in_flight[packet_id] = publish

    def take(self, packet_id: int) -> InFlight | None:
        """What that acknowledgement settles; None for one of a window that was given up."""
        return self._in_flight.pop(packet_id, None)

    def clear(self) -> None:
        self._in_flight.clear()
