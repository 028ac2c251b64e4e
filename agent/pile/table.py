"""A gun's states as tables: the first row that holds counts. docs/states.md, with its diagram, is made of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.pile.board import GunReading
from agent.pile.state import Gun, Phase, Session
from agent.pile.turn import Turn
from agent.protocol.results import GunStatus


@dataclass(frozen=True, slots=True)
class Case:
    """A gun with a charge, and what has come of it: a poll, whose meter reading is in the ledger already, or time."""

    turn: Turn
    gun: Gun
    session: Session
    reading: GunReading | None = None

    @property
    def polled(self) -> GunReading:
        """The reading; only rows of a poll ask for it."""
        assert self.reading is not None
        return self.reading


@dataclass(frozen=True, slots=True)
class Row:
    """In ``phase``, when ``holds``, do ``act``: the gun then shows one of ``to``."""

    phase: Phase
    when: str
    holds: Callable[[Case], bool]
    act: Callable[[Case], None]
    to: tuple[GunStatus, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """What a command, a card or a failed write does to a gun that shows one of ``before``."""

    before: tuple[GunStatus, ...]
    when: str
    to: tuple[GunStatus, ...]


def run(rows: Iterable[Row], case: Case) -> None:
    """Do what the first row for the case's phase says that holds; nothing where none does."""
    for row in rows:
        if row.phase is case.session.phase and row.holds(case):
            row.act(case)
            return
