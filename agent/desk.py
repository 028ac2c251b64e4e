"""The desk between the rooms: an event goes to the core, what it changes into the journal in ONE transaction, and only
then does anything happen outside."""

import errno
import logging
from _blake2 import blake2b  # as hashlib has it; that would load OpenSSL, 3.4 MiB
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.bridge import Bridge, address_fault
from agent.clock import Clock
from agent.config import Config
from agent.journal import FirstOutcome, Journal, JournalError
from agent.outbox import Outbox
from agent.pile.actions import (
    Action,
    Conclude,
    Firmware,
    KeepLogin,
    Kept,
    MarkStamps,
    PutStampsRight,
    RebootHost,
    Record,
    Reply,
    Report,
    StopGun,
    TryServer,
    UseServer,
)
from agent.pile.core import handle
from agent.pile.durable import changed_parts
from agent.pile.events import Commanded, Event, Measured, Refused, Repeated, Replayed, Stored, Ticked
from agent.pile.firmware import Upgrade
from agent.pile.state import PileState, Request
from agent.power.bus import Bus
from agent.protocol.codec import NOT_ASKED, Codec
from agent.protocol.records import record_outcome
from agent.protocol.results import Result
from agent.protocol.rules import epoch_ms
from agent.secret import carries_secret, hashed, may_carry_secret, slow_digest
from agent.stamps import Stamps
from agent.uplink import Uplink
from cext.message import Message, MessageError, pile_of

log = logging.getLogger(__name__)

KEY_BYTES = 16
HEADER_SHOWN = 64
UNDONE_MOST = 1000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
COMES_AGAIN = (Measured, Ticked, Replayed)  # events whose next one says it anew
CONFIGURE = 106
ANNOUNCE_UPGRADE = 113
QUERY_RECORDS = 104  # a record nobody asked for goes out as its report


class Desk:
    """Owns the pile's state. All methods run in the main thread."""

    def __init__(
        self, config: Config, state: PileState, journal: Journal, bus: Bus, bridge: Bridge, clock: Clock
    ) -> None:
        self.state = state
        self.counters: Counter[str] = Counter()
        self._config = config
        self._pile = config.pile.pile.encode()
        self._codec = Codec(config.utc_offset_s)
        self._journal = journal
        self._bus = bus
        self._bridge = bridge
        self.clock = clock
        self._stamps = Stamps(journal, self._codec)
        self._undone: deque[Event] = deque(maxlen=UNDONE_MOST)
        self.storage_fault = ""  # why nothing can be written down, if so
        self._stored = state  # what the journal has; the state may be ahead of it while the disk is full
        self._link: Uplink
        self._outbox: Outbox

    def connect(self, link: Uplink, outbox: Outbox) -> None:
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
            self._not_stored(error)
            return False
        return True

    def others_came(self, count: int) -> None:
        """Messages of other piles that the link did not even hand on."""
        self.counters["foreign"] += count

    def _command_came(self, payload: bytes, key: bytes) -> None:
        first = self._journal.seen(key)
        event = self._event(payload, key.hex())
        if first is not None:
            self._carry_out(*self._settle(Repeated(event.request, _outcome_of(first)), None))
            return
        try:
            event, password = self._without_password(event)
            settled = self._settle(event, payload, password)
        except JournalError:
            raise
        except OSError as error:  # of an upgrade's login, and not of the journal: other commands need not wait for room
            result = Result.NO_SPACE if error.errno in NO_ROOM else Result.INTERNAL
            refusal = Refused(event.request, result, f"the login can't be kept: {error.strerror}")
            settled = self._settle(refusal, payload)
        except Exception:  # a bug: were the command not acknowledged, it would come again for ever
            log.exception("command %d at %s could not be handled", event.request.command, event.request.timestamp)
            refusal = Refused(event.request, Result.INTERNAL, "the agent could not handle this command")
            settled = self._settle(refusal, payload)
        self._carry_out(*settled)

    def happened(self, event: Event) -> None:
        """Anything but a command. What can't be stored now is tried again before the next event."""
        while self._undone:
            earlier = self._undone.popleft()
            if not self._is_done(earlier):
                self._undone.appendleft(earlier)
                break
        if not self._is_done(event) and not isinstance(event, COMES_AGAIN):
            self._undone.append(event)

    def _is_done(self, event: Event) -> bool:
        try:
            self._carry_out(*self._settle(event, None))
        except JournalError as error:
            self._not_stored(error)
            return False
        return True

    # ---- one turn ----

    def _event(self, payload: bytes, key: str) -> Commanded | Refused:
        try:
            message = self._codec.decode(payload)
        except MessageError as error:
            request = Request(error.command or 0, error.timestamp_text, key)
            return Refused(request, Result(error.result), str(error))
        self.clock.heard(epoch_ms(message.timestamp))
        request = Request(message.command, message.timestamp_text, key)
        if message.command == ANNOUNCE_UPGRADE and (fault := address_fault(message.data.ftp_address)):
            return Refused(request, Result.OUT_OF_RANGE, fault)
        if message.command != QUERY_RECORDS:
            return Commanded(message, request)
        extent = self._journal.records.extent(message.data.type)
        return Commanded(message, request, Stored(extent.count, extent.last))

    def _without_password(self, event: Commanded | Refused) -> tuple[Commanded | Refused, str]:
        """The core and the journal never get to see a password: a 106 has its hash instead, a 113 nothing. The second
        is the password of a 113, for the upgrade's login."""
        if not isinstance(event, Commanded) or event.message.command not in (CONFIGURE, ANNOUNCE_UPGRADE):
            return event, ""
        data, password = event.message.data, ""
        if event.message.command == ANNOUNCE_UPGRADE:
            data, password = data._replace(ftp_password=""), data.ftp_password
        elif data.screen_password:
            data = data._replace(screen_password=hashed(data.screen_password))
        return replace(event, message=self._with_data(event.message, data)), password

    def _with_data(self, message: Message, data: Sequence[Any]) -> Message:
        return self._codec.decode(
            self._codec.encode(message.ip, message.version, message.command, message.timestamp_text, message.pile, data)
        )

    def _settle(self, event: Event, new_line: bytes | None, password: str = "") -> tuple[tuple[Action, ...], int]:
        """Let the core decide, and write down what changes: nothing, or all of it, has happened afterwards.
        ``new_line``: the command's line when it is to be recorded; ``password``: what it brought of an upgrade's login.
        Returns what is left to do, and the messages due."""
        state, actions = handle(self._config.pile, self.state, event, self.clock.now())
        try:
            self._keep_login(actions, password)
            messages = self._commit(event, state, actions, new_line)
        except JournalError:
            self._go_on_unstored(event, state, actions)
            raise
        _tell_stage(self._stored.upgrade, state.upgrade)
        self.state = self._stored = state
        return actions, messages

    def _keep_login(self, actions: tuple[Action, ...], password: str) -> None:
        """Before the turn is durable: an upgrade that is ordered has its login. Raises OSError. One that was never
        ordered is overwritten by the next, or goes with the next start."""
        for action in actions:
            if isinstance(action, KeepLogin):
                self._bridge.keep_login(action, password)

    def _go_on_unstored(self, event: Event, state: PileState, actions: tuple[Action, ...]) -> None:
        """Nothing can be written down. Current must come off all the same, and what the boards report is believed, as
        long as no record or reply is due for it: the parts it changes are written with the next turn that can be."""
        for action in actions:
            if isinstance(action, StopGun):
                self._perform(action)
        if isinstance(event, COMES_AGAIN) and not _kept(actions):
            self.state = state

    def _carry_out(self, actions: tuple[Action, ...], messages: int) -> None:
        for action in actions:
            self._perform(action)
        if messages:
            self._outbox.enqueued(messages)

    def _commit(self, event: Event, state: PileState, actions: tuple[Action, ...], new_line: bytes | None) -> int:
        """The turn's effect and its replies on disk, together; returns how many messages it put into the outbox."""
        parts = changed_parts(self._stored, state)
        kept = _kept(actions)
        if not parts and not kept and new_line is None:
            return 0
        wall_ms = self.clock.now().wall_ms
        with self._journal.transaction():
            if new_line is not None:
                assert isinstance(event, Commanded | Refused)
                line = None if may_carry_secret(new_line) else new_line
                self._journal.record_command(bytes.fromhex(event.request.key), event.request.command, line, wall_ms)
            for name, part in parts.items():
                self._journal.put(name, part)
            for action in kept:
                self._keep(action, wall_ms, is_first=not isinstance(event, Repeated))
        self.storage_fault = ""
        return sum(isinstance(action, Record | Report | Reply) for action in kept)

    def _keep(self, action: Kept, wall_ms: int, is_first: bool) -> None:
        match action:
            case Record(record_type, at_ms, gun, order, body):
                sequence = self._journal.records.add(record_type, at_ms, gun, order, body)
                outcome = record_outcome(record_type, 1, 1, sequence, order, gun, at_ms, body)
                self._outbox.enqueue(*self.line(QUERY_RECORDS, NOT_ASKED, outcome), wall_ms)
            case MarkStamps():
                self._stamps.mark()
            case PutStampsRight(by_ms):
                self._stamps.put_right(by_ms)
            case Conclude(request, result, outcome):
                self._record_outcome(request, result, outcome)
            case Report(command, outcome):
                self._outbox.enqueue(*self.line(command, NOT_ASKED, outcome), wall_ms)
            case Reply(request, result, outcome):
                self._outbox.enqueue(*self.line(request.command, request.timestamp, outcome), wall_ms)
                if is_first:  # a repetition's DUPLICATE must not take the place of the outcome it repeats
                    self._record_outcome(request, result, outcome)

    def _record_outcome(self, request: Request, result: Result, outcome: str) -> None:
        self._journal.record_outcome(bytes.fromhex(request.key), result.value, outcome.partition(",")[2])

    def line(self, command: int, request_timestamp: str, outcome: str) -> tuple[str, bytes]:
        """Topic and line of an uplink message."""
        config = self._config
        line = self._codec.encode_reply(
            config.ip,
            config.api_version,
            command,
            self.clock.now().wall_ms,
            config.pile.pile,
            request_timestamp,
            outcome,
        )
        return config.link.reply_topic, line

    def _perform(self, action: Action) -> None:
        """What the turn wants done, now that it is on disk."""
        match action:
            case Record() as record:
                if record.words:
                    log.log(record.severity, "%s", record.words)
            case Conclude() | MarkStamps() | PutStampsRight():
                pass  # all of it is in the journal
            case Report(command, outcome, durable):
                if not durable:
                    self._link.report(*self.line(command, NOT_ASKED, outcome))
            case Reply(request, result, outcome):
                self.counters[result.name.lower()] += 1
                level = logging.DEBUG if self._is_common(result) else logging.INFO
                log.log(level, "command %d at %s answered %s", request.command, request.timestamp, outcome)
            case RebootHost():
                self._reboot_host()
            case TryServer(server):
                self._link.try_server(server)
            case UseServer(server):
                self._link.use_server(server)
            case order if isinstance(order, Firmware):
                self._bridge.do(order)
            case order:
                self._bus.do(order)

    def _reboot_host(self) -> None:
        command = self._config.reboot_command
        if not command:
            log.warning("pile.reboot_command is empty: the Linux board is not restarted")
            return
        log.warning("restarting the Linux board: %s", " ".join(command))
        import subprocess  # here, as few agents ever do

        try:
            subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as error:
            log.error("the Linux board could not be restarted: %s", error)

    def _is_common(self, result: Result) -> bool:
        """Rubbish and repetitions are said the 1st, 2nd, 4th, 8th … time: a flood of them must not fill the log."""
        count = self.counters[result.name.lower()]
        return result in (Result.MALFORMED, Result.NOT_SUPPORTED, Result.DUPLICATE) and count & (count - 1) != 0

    def _not_stored(self, error: JournalError) -> None:
        """Said once, until something could be stored again."""
        self.counters["not stored"] += 1
        if not self.storage_fault:
            log.error("%s", error)
        self.storage_fault = str(error)

    def _drop(self, why: str, payload: bytes) -> None:
        """Not for this pile: counted, and said once."""
        self.counters[why] += 1
        if self.counters[why] == 1:  # its data is not shown: it may hold a password
            header = b",".join(payload.split(b",", 5)[:5])[:HEADER_SHOWN]
            log.info("a message dropped as %s (from now on only counted): %s", why, header)


def command_key(payload: bytes) -> bytes:
    """What makes a command the same again: command, timestamp, pile and data; not the ip and version before them."""
    data = payload.split(b",", 2)[-1]
    # With a fast digest whoever has the journal could try passwords. Only for these: rubbish must cost little.
    if carries_secret(payload):
        return slow_digest(data, KEY_BYTES)
    return blake2b(data, digest_size=KEY_BYTES).digest()


def _tell_stage(before: Upgrade | None, after: Upgrade | None) -> None:
    """Into the log. That an upgrade begins, and how it ends, are events, which are logged as such."""
    if before is None or after is None or before.request != after.request or after.is_over:
        return
    if before.stage is not after.stage:
        log.info("upgrade %s to %s: %s", after.ticket.record_id, after.version, after.stage.value)


def _outcome_of(first: FirstOutcome) -> str:
    """Result and body as on the wire; empty while there is no outcome yet."""
    if first.result is None:
        return ""
    return f"{first.result},{first.body}" if first.body else str(first.result)


def _kept(actions: tuple[Action, ...]) -> list[Kept]:
    """What of a turn's actions is written down."""
    kept = (action for action in actions if isinstance(action, Kept))
    return [action for action in kept if not isinstance(action, Report) or action.durable]
