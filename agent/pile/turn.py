"""One turn of the core: the state as it becomes while an event is handled, and what is to be done about it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.pile.actions import Action, Record, Reply, Report, Severity
from agent.pile.events import NOTHING_STORED
from agent.pile.money import Price
from agent.pile.parameters import PUBLIC_FREE
from agent.pile.state import Gun, Now, PileConfig, PileState, Request
from agent.pile.status import status_of
from agent.pile.tariff import Tariff, flat_tariff
from agent.protocol.codec import outcome_text, plain_text
from agent.protocol.commands import EventRecord, GunState, Heartbeat
from agent.protocol.events import EventCode
from agent.protocol.records import body_of
from agent.protocol.results import RecordType, Result
from agent.protocol.rules import epoch_ms

SEVERITIES = {
    EventCode.STOP_FAILED: Severity.ERROR,
    EventCode.REBOOT_FAILED: Severity.WARNING,
    EventCode.START_FAILED: Severity.WARNING,
    EventCode.CHARGE_WITHOUT_ORDER: Severity.WARNING,
    EventCode.CAP_PASSED: Severity.WARNING,
    EventCode.CONFIGURE_FAILED: Severity.WARNING,
    EventCode.BOARD_NOT_SET: Severity.WARNING,
    EventCode.TIME_UNKNOWN: Severity.WARNING,
    EventCode.UPGRADE_FAILED: Severity.WARNING,
}


def repetition(request: Request, outcome: str) -> Reply:
    """The answer to a command that came before: DUPLICATE, and the first outcome behind it."""
    prefix = f"{Result.DUPLICATE.value},"
    return Reply(request, Result.DUPLICATE, outcome if outcome.startswith(prefix) else prefix + outcome)


class Turn:
    """Collects a turn's changes. Handlers read ``state`` and ``now``, and call what is below."""

    def __init__(self, config: PileConfig, state: PileState, now: Now) -> None:
        self.config = config
        self.state = state
        self.now = now
        self.stored = NOTHING_STORED  # the records of the type that a 104 asks for
        self.actions: list[Action] = []

    def gun(self, number: int) -> Gun:
        return self.state.guns[number]

    def put(self, gun: Gun) -> Gun:
        """Replace a gun, and hand it back."""
        self.state = self.state.with_gun(gun)
        return gun

    def change(self, **changes: Any) -> None:
        """Replace fields of the pile's state."""
        self.state = replace(self.state, **changes)

    def do(self, action: Action) -> None:
        self.actions.append(action)

    def reply(self, request: Request, result: Result, body: Sequence[Any] | str) -> None:
        """Answer ``request``: ``body`` is an instance of its reply class, or with an error result the words for it."""
        self.do(Reply(request, result, outcome_text(request.command, result, body, self.config.pile)))

    def duplicate(self, request: Request, first: Result, body: Sequence[Any] | str) -> None:
        """Answer DUPLICATE: the first outcome, result and body, stands behind it."""
        self.do(repetition(request, outcome_text(request.command, first, body, self.config.pile)))

    def report(self, command: int, body: Sequence[Any], durable: bool) -> None:
        """Send what a reply of ``command`` would say, unasked."""
        self.do(Report(command, outcome_text(command, Result.OK, body, self.config.pile), durable))

    def note(self, gun: int, code: EventCode, text: str, order: str = "") -> None:
        """Keep an event; ``gun`` 0 is the pile."""
        at_ms = self.now.wall_ms
        event = EventRecord(RecordType.EVENT, 1, 1, 1, at_ms, gun, code, plain_text(text))
        self.do(Record(RecordType.EVENT, at_ms, gun, order, body_of(event), text, SEVERITIES.get(code, Severity.INFO)))

    def heartbeat(self) -> Heartbeat:
        """The body of 100."""
        rows = tuple(
            GunState(number, status_of(gun, self.now.mono_ms)) for number, gun in sorted(self.state.guns.items())
        )
        return Heartbeat((self.now.mono_ms - self.state.started_ms) // 1000, rows)

    def tariff(self, number: int) -> Tariff | None:
        """What energy costs at a gun: nothing on a public, free pile (109); ``None`` while there is no tariff."""
        site = self.state.site
        if site is not None and site.operation == PUBLIC_FREE:
            return flat_tariff("free", Price(0, 0))
        found = next((one.tariff for one in self.state.tariffs if one.gun == number), None)
        if found is None and self.config.price is not None:
            return flat_tariff("config", self.config.price)
        return found

    def current_limit_da(self, number: int) -> int:
        """The largest current of a gun; a 106 under way counts from the moment the gun's board has it."""
        configuring, parameters = self.state.configuring, self.state.parameters
        if configuring is not None and number not in configuring.left:
            parameters = configuring.parameters
        limit_da = parameters.board.current_limit_da if parameters is not None else None
        return limit_da if limit_da is not None else self.config.current_limit_da

    def reboot_awaits(self, number: int) -> bool:
        """A reboot that concerns the gun is ordered and not yet done."""
        ordered = self.state.pending_reboot or self.state.rebooting
        return ordered is not None and ordered.gun in (0, number)

    def is_stale(self, timestamp: int) -> bool:
        """A command with that timestamp is older than ``command_ttl``, as far as is known: an estimated time says how
        late it is at least."""
        return self.now.trusted and self.now.wall_ms - epoch_ms(timestamp) > self.config.command_ttl_s * 1000

    @property
    def unsure_ms(self) -> int | None:
        """While the time is not sure: now, by this boot's monotonic clock."""
        return None if self.now.is_sure else self.now.mono_ms

    def why_unpriced(self, tariff: Tariff) -> str | None:
        """Why energy delivered now can't be priced, in words."""
        if self.now.trusted or tariff.is_flat:
            return None
        return f"the time is not known, and tariff {tariff.template} has {len(set(tariff.prices))} prices"
