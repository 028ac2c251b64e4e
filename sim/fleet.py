"""Thousands of light piles in one process: MQTT 3.1.1 on sockets of their own, one epoll.

To the broker each of them is a pile: its own login, a kept session, presence and will, QoS 1, an answer to every
command, the agent's time limits and its back-off. Behind that there is nothing: no journal, no board.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from agent.link.backoff import Backoff
from agent.link.config import LinkConfig
from sim import mqtt_wire

# The agent's own, so that the fleet comes back as agents would.
_KEEPALIVE_S = LinkConfig.keepalive_s
_STEP_S = LinkConfig.connect_timeout_s
_BACKOFF_S = (LinkConfig.backoff_first_s, LinkConfig.backoff_max_s)
_STABLE_S = LinkConfig.stable_s

_LOOK_ROUND_S = 0.05  # how exactly dials and time limits are kept
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# Bodies of the replies, by command: result and fields as docs/protocol.md has them.
_OUTCOMES: Mapping[bytes, Sequence[bytes]] = {
    b"101": (b"1,1,20261122000001,3", b"0,1,20261122000001,4"),
    b"110": (b"0,T7,0,0",),
}


class Phase(Enum):
    WAITING = 0  # for the next dial
    DIALLING = 1
    HANDSHAKE = 2  # of TLS
    LOGIN = 3
    SUBSCRIBING = 4
    READY = 5


@dataclass(frozen=True)
class Login:
    """How the piles get in. ``ports``: of one node each, of which a dial takes any; ``password``: of all piles;
    ``tls``: the context with the certificate of a pile."""

    host: str
    ports: Sequence[int]
    password: str = ""
    tls: Callable[[str], ssl.SSLContext] | None = None


@dataclass
class Log:
    """What the fleet has seen. Times are of CLOCK_MONOTONIC, which all processes of a machine share."""

    receipts: list[tuple[int, str, int]] = field(default_factory=list)  # timestamp of the command, the pile, when (ns)
    ready_at: list[float] = field(default_factory=list)  # seconds, one for each subscription granted
    dials: int = 0
    losses: int = 0  # of connections that were ready
    refusals: int = 0  # of logins
    timeouts: int = 0  # of TCP, TLS, the answer to the login, or to the subscription


class LightPile:
    """One pile and its connection. ``tick`` and ``on_event`` are called by the fleet's loop."""

    __slots__ = (
        "_answers", "_backoff", "_fleet", "_latest", "_out", "_packet_id", "_ready_since", "_received", "_rng",
        "_topic_end", "due_at", "number", "phase", "socket",
    )  # fmt: skip

    def __init__(self, number: str, fleet: "Fleet", rng: Random) -> None:
        self.number = number
        self.phase = Phase.WAITING
        self.due_at = 0.0  # when ``tick`` has something to do
        self.socket: socket.socket | None = None
        self._fleet = fleet
        self._rng = rng
        self._backoff = Backoff(*_BACKOFF_S, rng)
        self._received = bytearray()
        self._out = bytearray()
        self._answers: dict[int, bytes] = {}  # that the broker has not acknowledged
        self._packet_id = 0
        self._latest = 0  # timestamp of the latest command
        self._ready_since = 0.0
        self._topic_end = f"qik/{number}"

    def tick(self, now: float) -> None:
        if self.phase is Phase.WAITING:
            self._dial()
        elif self.phase is Phase.READY:
            self.due_at = now + _KEEPALIVE_S
            self._send(mqtt_wire.PINGREQ)
        else:
            self._fleet.log.timeouts += 1
            self.lose()

    def on_event(self) -> None:
        assert self.socket is not None
        try:
            if self.phase is Phase.DIALLING:
                self._dialled(self.socket)
            elif self.phase is Phase.HANDSHAKE:
                self._shake_hands()
            else:
                self._read()
        except _WAITS:
            pass
        except OSError:
            self.lose()

    def lose(self) -> None:
        """Give the connection up, if there is one, and dial again later."""
        if self.socket is not None:
            self._fleet.forget(self.socket)
            self.socket.close()
            self.socket = None
        now = time.monotonic()
        if self.phase is Phase.READY:
            self._fleet.log.losses += 1
            if now - self._ready_since > _STABLE_S:
                self._backoff.reset()
        self.phase = Phase.WAITING
        self.due_at = now + self._backoff.next_delay_s()
        self._received.clear()
        self._out.clear()

    def leave(self) -> None:
        """Log out; the session stays at the broker."""
        if self.socket is not None:
            self._send(mqtt_wire.DISCONNECT)
            self.lose()
        self.due_at = float("inf")

    def report(self, line: bytes) -> None:
        """Say something unasked, at QoS 1."""
        self._answer(line)
        self._send(b"")

    @property
    def unacknowledged(self) -> int:
        """Replies and reports that the broker has not acknowledged."""
        return len(self._answers)

    # --- to the login ---

    def _dial(self) -> None:
        login = self._fleet.login
        self._fleet.log.dials += 1
        self._enter(Phase.DIALLING)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex((login.host, self._rng.choice(login.ports)))
        self._fleet.watch(self.socket, self)

    def _dialled(self, plain: socket.socket) -> None:
        error = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "connect")
        if self._fleet.login.tls is None:
            self._log_in()
            return
        self._enter(Phase.HANDSHAKE)
        context = self._fleet.login.tls(self.number)
        name = self._fleet.login.host
        # Takes the descriptor over: epoll goes on watching it.
        self.socket = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
        self._fleet.watch_again(self.socket, self)
        self._shake_hands()

    def _shake_hands(self) -> None:
        assert isinstance(self.socket, ssl.SSLSocket)
        self.socket.do_handshake()
        self._log_in()

    def _log_in(self) -> None:
        self._enter(Phase.LOGIN)
        password = self._fleet.login.password
        login = (self.number, password) if password else None
        self._send(mqtt_wire.connect(self.number, _KEEPALIVE_S, f"klc/status/{self._topic_end}", login))

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.due_at = time.monotonic() + _STEP_S

    # --- packets ---

    def _read(self) -> None:
        is_closed = self._receive()
        for first_byte, body in mqtt_wire.packets(self._received):
            self._packet_came(first_byte, body)
        if is_closed:  # only now: a refusal comes with the end
            raise ConnectionResetError("closed by the broker")
        self._flush()

    def _receive(self) -> bool:
        """All that has come; whether that was the end."""
        assert self.socket is not None
        try:
            while data := self.socket.recv(16384):
                self._received += data
        except _WAITS:
            return False
        return True

    def _packet_came(self, first_byte: int, body: bytes) -> None:
        kind = first_byte & 0xF0
        if kind == mqtt_wire.PUBLISH:
            packet_id, payload = mqtt_wire.published(first_byte, body)
            self._command_came(payload, time.monotonic_ns())
            self._out += mqtt_wire.puback(packet_id)
        elif kind == mqtt_wire.PUBACK:
            self._answers.pop(int.from_bytes(body), None)
        elif kind == mqtt_wire.CONNACK:
            self._login_answered(body[1])
        elif kind == mqtt_wire.SUBACK:
            self._become_ready(body[2])

    def _login_answered(self, code: int) -> None:
        if code:
            self._fleet.log.refusals += 1
            raise PermissionError(f"{self.number}: login refused, code {code}")
        self._enter(Phase.SUBSCRIBING)
        self._out += mqtt_wire.subscribe(self._next_id(), f"klc/command/{self._topic_end}")

    def _become_ready(self, granted: int) -> None:
        if granted != 1:
            raise PermissionError(f"{self.number}: subscription answered {granted:#x}")
        self.phase = Phase.READY
        self._ready_since = time.monotonic()
        self.due_at = self._ready_since + _KEEPALIVE_S
        self._fleet.log.ready_at.append(self._ready_since)
        self._out += mqtt_wire.publish(self._next_id(), f"klc/status/{self._topic_end}", b"online", retain=True)
        for packet in self._answers.values():
            self._out += packet

    def _command_came(self, line: bytes, at_ns: int) -> None:
        ip, version, command, timestamp, rest = line.split(b",", 4)
        self._fleet.log.receipts.append((int(timestamp), self.number, at_ns))
        if rest.partition(b",")[0].decode() != self.number:
            return  # of another pile, in shared mode
        is_repeated, self._latest = int(timestamp) <= self._latest, max(int(timestamp), self._latest)
        for outcome in _OUTCOMES[command]:
            result = b"3," + outcome if is_repeated else outcome
            head = b",".join((ip, version, command, b"%d" % (time.time_ns() // 1_000_000)))
            self._answer(b"%b,%b,%b,%b" % (head, self.number.encode(), timestamp, result))

    def _answer(self, line: bytes) -> None:
        packet_id = self._next_id()
        self._answers[packet_id] = mqtt_wire.publish(packet_id, f"klc/reply/{self._topic_end}", line)
        self._out += self._answers[packet_id]

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65535 + 1
        return self._packet_id

    def _send(self, data: bytes) -> None:
        self._out += data
        try:
            self._flush()
        except OSError:
            self.lose()

    def _flush(self) -> None:
        """What the socket does not take now goes with the next packets: 64 KiB are more than a pile ever has to say."""
        if self._out and self.socket is not None:
            try:
                del self._out[: self.socket.send(self._out)]
            except _WAITS:
                return


class Fleet:
    """The piles and their loop. Nothing happens but in ``turn``."""

    def __init__(self, login: Login, numbers: Sequence[str], seed: int = 1) -> None:
        self.login = login
        self.log = Log()
        self._rng = Random(seed)
        self.piles = [LightPile(number, self, self._rng) for number in numbers]
        self._by_fd: dict[int, LightPile] = {}
        self._poll = select.epoll()
        self._looked_at = 0.0

    @property
    def ready(self) -> int:
        return sum(pile.phase is Phase.READY for pile in self.piles)

    def boot(self, spread_s: float) -> None:
        """The boards have got their power back in this instant: each first dial at any time up to ``spread_s``."""
        now = time.monotonic()
        for pile in self.piles:
            pile.due_at = now + self._rng.uniform(0.0, spread_s)

    def turn(self, timeout_s: float) -> None:
        """Do what is due, wait for the next events, handle them."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_ROUND_S:
            self._looked_at = now
            for pile in self.piles:
                if now >= pile.due_at:
                    pile.tick(now)
        for fd, _ in self._poll.poll(min(timeout_s, _LOOK_ROUND_S)):
            if (pile_of_fd := self._by_fd.get(fd)) is not None:
                pile_of_fd.on_event()

    def run_until(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Whether the condition came true in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.turn(_LOOK_ROUND_S)
        return True

    def stop(self) -> None:
        for pile in self.piles:
            pile.leave()
        self._poll.close()

    def watch(self, sock: socket.socket, pile: LightPile) -> None:
        # Edge-triggered: that it can be written is told once, when the dial is over.
        self._poll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._by_fd[sock.fileno()] = pile

    def watch_again(self, sock: socket.socket, pile: LightPile) -> None:
        self._by_fd[sock.fileno()] = pile

    def forget(self, sock: socket.socket) -> None:
        self._by_fd.pop(sock.fileno(), None)
        self._poll.unregister(sock)
