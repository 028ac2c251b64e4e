"""The desk between the rooms: an event goes to the core, what it changes into the journal in ONE transaction, and only
then does anything happen outside."""

import hashlib
import logging
import subprocess
from collections import Counter

from agent.clock import now
from agent.config import Config
from agent.journal import FirstOutcome, Journal, JournalError
from agent.link.link import Link
from agent.outbox import Outbox
from agent.pile.actions import Action, Note, RebootHost, Reply, Report
from agent.pile.core import handle
from agent.pile.durable import changed_parts
from agent.pile.events import Commanded, Event, Refused, Repeated
from agent.pile.state import PileState, Request
from agent.power.bus import Bus
from agent.protocol.codec import NOT_ASKED, Codec
from agent.protocol.results import Result
from cext.message import MessageError, pile_of

log = logging.getLogger(__name__)

KEY_BYTES = 16
NOTED_AS = {"device-silent": logging.ERROR, "stop-failed": logging.ERROR, "fault-raised": logging.WARNING,
            "start-failed": logging.WARNING, "charge-without-order": logging.WARNING}  # fmt: skip


class Desk:
    """Owns the pile's state. All methods run in the main thread."""

    def __init__(self, config: Config, state: PileState, journal: Journal, bus: Bus) -> None:
        self.state = state
        self.counters: Counter[str] = Counter()
        self._config = config
        self._pile = config.pile.pile.encode()
        self._codec = Codec(config.utc_offset_s)
        self._journal = journal
        self._bus = bus
        self._link: Link
        self._outbox: Outbox

    def connect(self, link: Link, outbox: Outbox) -> None:
        """The way out; it needs ``message_came`` and ``happened`` first."""
        self._link, self._outbox = link, outbox

    def message_came(self, payload: bytes) -> bool:
        """A line from the broker. True once it may be acknowledged; False when it could not be stored."""
        pile = pile_of(payload)
        if pile != self._pile:
            self._drop("foreign" if pile is not None else "unreadable", payload)
            return True
        try:
            self._command_came(payload, command_key(payload))
        except JournalError as error:
            log.error("a command could not be stored: %s", error)
            return False
        return True

    def _command_came(self, payload: bytes, key: bytes) -> None:
        first = self._journal.seen(key)
        event = self._event(payload, key.hex())
        if first is not None:
            self._turn(Repeated(event.request, _outcome_of(first)), None)
            return
        try:
            self._turn(event, payload)
        except JournalError:
            raise
        except Exception:  # a bug: were the command not acknowledged, it would come again for ever
            log.exception("command %d at %s could not be handled", event.request.command, event.request.timestamp)
            self._turn(Refused(event.request, Result.INTERNAL, "the agent could not handle this command"), payload)

    def happened(self, event: Event) -> None:
        """Anything but a command. What can't be stored now stays undone; the next event finds the state as it was."""
        try:
            self._turn(event, None)
        except JournalError as error:
            self.counters["not stored"] += 1
            if self.counters["not stored"] == 1:
                log.error("%s", error)

    # ---- one turn ----

    def _event(self, payload: bytes, key: str) -> Commanded | Refused:
        try:
            message = self._codec.decode(payload)
        except MessageError as error:
            request = Request(error.command or 0, error.timestamp_text, key)
            return Refused(request, Result(error.result), str(error))
        return Commanded(message, Request(message.command, message.timestamp_text, key))

    def _turn(self, event: Event, new_line: bytes | None) -> None:
        """``new_line``: the command's line when it is to be recorded."""
        state, actions = handle(self._config.pile, self.state, event, now())
        messages = self._commit(event, state, actions, new_line)
        self.state = state
        for action in actions:
            self._perform(action)
        if messages:
            self._outbox.enqueued(messages)

    def _commit(self, event: Event, state: PileState, actions: tuple[Action, ...], new_line: bytes | None) -> int:
        """The turn's effect and its replies on disk, together; returns how many messages it put into the outbox."""
        parts = changed_parts(self.state, state)
        kept = [action for action in actions if isinstance(action, Reply | Note | Report) and _is_durable(action)]
        if not parts and not kept and new_line is None:
            return 0
        wall_ms = now().wall_ms
        with self._journal.transaction():
            if new_line is not None:
                assert isinstance(event, Commanded | Refused)
                self._journal.record_command(bytes.fromhex(event.request.key), event.request.command, new_line, wall_ms)
            for name, part in parts.items():
                self._journal.put(name, part)
            for action in kept:
                self._keep(action, wall_ms)
        return sum(not isinstance(action, Note) for action in kept)

    def _keep(self, action: Reply | Report | Note, wall_ms: int) -> None:
        match action:
            case Note(gun, code, text):
                self._journal.add_event(wall_ms, gun, code, text)
            case Report(command, outcome):
                self._outbox.enqueue(*self._line(command, NOT_ASKED, outcome), wall_ms)
            case Reply(request, result, outcome):
                self._outbox.enqueue(*self._line(request.command, request.timestamp, outcome), wall_ms)
                self._journal.record_outcome(bytes.fromhex(request.key), result.value, outcome.partition(",")[2])

    def _line(self, command: int, request_timestamp: str, outcome: str) -> tuple[str, bytes]:
        """Topic and line of an uplink message."""
        config = self._config
        line = self._codec.encode_reply(
            config.ip, config.api_version, command, now().wall_ms, config.pile.pile, request_timestamp, outcome
        )
        return config.link.reply_topic, line

    def _perform(self, action: Action) -> None:
        """What the turn wants done, now that it is on disk."""
        match action:
            case Note(_, code, text):
                log.log(NOTED_AS.get(code, logging.INFO), "%s", text)
            case Report(command, outcome, durable):
                if not durable:
                    self._link.report(*self._line(command, NOT_ASKED, outcome))
            case Reply(request, result, outcome):
                self.counters[result.name.lower()] += 1
                log.info("command %d at %s answered %s", request.command, request.timestamp, outcome)
            case RebootHost():
                self._reboot_host()
            case order:
                self._bus.do(order)

    def _reboot_host(self) -> None:
        command = self._config.reboot_command
        if not command:
            log.warning("pile.reboot_command is empty: the Linux board is not restarted")
            return
        log.warning("restarting the Linux board: %s", " ".join(command))
        try:
            subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            log.error("the Linux board could not be restarted: %s", error)

    def _drop(self, why: str, payload: bytes) -> None:
        """Not for this pile: counted, and said once."""
        self.counters[why] += 1
        if self.counters[why] == 1:
            log.info("a message dropped as %s (from now on only counted): %s", why, payload[:80])


def command_key(payload: bytes) -> bytes:
    """What makes a command the same again: command, timestamp, pile and data; not the ip and version before them."""
    return hashlib.blake2b(payload.split(b",", 2)[-1], digest_size=KEY_BYTES).digest()


def _outcome_of(first: FirstOutcome) -> str:
    """Result and body as on the wire; empty while there is no outcome yet."""
    if first.result is None:
        return ""
    return f"{first.result},{first.body}" if first.body else str(first.result)


def _is_durable(action: Reply | Note | Report) -> bool:
    return not isinstance(action, Report) or action.durable
