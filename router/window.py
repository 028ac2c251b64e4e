"""What is on its way: several piles at once, one message of each. Pure.

A pile's next message is sent when the one before it is settled. So the order of a pile holds even where the broker
refuses a message and takes the following one, and a pile whose queue refuses holds up nobody else.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """A message taken from the queue: its delivery tag, for whom it is, and what is kept of it."""

    tag: int
    pile: str  # "" for one that can't be read, which is in nobody's order
    body: bytes
    properties: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Ack:
    """An acknowledgement to the broker; ``multiple``: of all earlier tags too."""

    tag: int
    multiple: bool


class Window:
    def __init__(self) -> None:
        self._lines: dict[str, deque[Job]] = {}  # by pile; the first of each is on its way
        self._unsettled: dict[int, None] = {}  # tags in the order they came
        self._settled: list[int] = []

    def __len__(self) -> int:
        return len(self._unsettled)

    def take(self, job: Job) -> Job | None:
        """Add a message just delivered. The one to send now: itself, or none while its pile has one on its way."""
        self._unsettled[job.tag] = None
        line = self._lines.setdefault(_line_of(job), deque())
        line.append(job)
        return job if len(line) == 1 else None

    def settle(self, job: Job) -> Job | None:
        """The message is where it should be. The pile's next one to send, if it has one."""
        del self._unsettled[job.tag]
        self._settled.append(job.tag)
        line = self._lines[_line_of(job)]
        line.popleft()
        if line:
            return line[0]
        del self._lines[_line_of(job)]
        return None

    def acks(self) -> Iterator[Ack]:
        """What can be acknowledged since the last call, in as few frames as there may be."""
        oldest = next(iter(self._unsettled), None)
        through = [tag for tag in self._settled if oldest is None or tag < oldest]
        if through:
            yield Ack(max(through), multiple=True)
        yield from (Ack(tag, multiple=False) for tag in self._settled if oldest is not None and tag > oldest)
        self._settled = []


def _line_of(job: Job) -> str:
    return job.pile or f"?{job.tag}"  # no pile number has a "?"
