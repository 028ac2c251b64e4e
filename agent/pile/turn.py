"""One turn of the core: the state as it becomes while an event is handled, and what is to be done about it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.pile.actions import Action, Note, Reply, Report
from agent.pile.state import Gun, Now, PileConfig, PileState, Request
from agent.pile.status import status_of
from agent.protocol.codec import outcome_text
from agent.protocol.commands import GunState, Heartbeat
from agent.protocol.results import Result


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

    def note(self, gun: int, code: str, text: str) -> None:
        self.do(Note(gun, code, text))

    def heartbeat(self) -> Heartbeat:
        """The body of 100."""
        rows = tuple(
            GunState(number, status_of(gun, self.now.mono_ms)) for number, gun in sorted(self.state.guns.items())
        )
        return Heartbeat((self.now.mono_ms - self.state.started_ms) // 1000, rows)

    def reboot_awaits(self, number: int) -> bool:
        """A reboot that concerns the gun is ordered and not yet done."""
        ordered = self.state.pending_reboot or self.state.rebooting
        return ordered is not None and ordered.gun in (0, number)

    def is_stale(self, timestamp: int) -> bool:
        """A command with that timestamp (ms from 1e12 on, else s) is older than ``command_ttl``, as far as is known."""
        sent_ms = timestamp if timestamp >= 10**12 else timestamp * 1000
        return self.now.trusted and self.now.wall_ms - sent_ms > self.config.command_ttl_s * 1000
