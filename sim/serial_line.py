"""A serial line that takes its time: two pseudo-terminals and a relay that paces every byte at the baud rate.

Neither a pty nor an emulator paces bytes, so a simulator that claims a baud rate has to. The agent opens ``path``, the
board opens ``board_path``. As on RS-485 one side speaks at a time; the relay tells frames apart by silence, checks that
the master kept 3.5 characters of it, and spoils answers on request.
"""

import os
import select
import tempfile
import threading
import time
import tty
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

CHUNK_S = 0.003  # bytes are handed over in pieces of this length, and at the end of each frame exactly on time
GATHER_S = 0.001  # the board writes a whole answer at once; a pty may pass it on in pieces


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes between two silences. ``direction`` is request or answer; times are ``time.monotonic()`` seconds."""

    direction: str
    data: bytes
    began_at: float
    ended_at: float


@dataclass(slots=True)
class _Faults:
    """What the next answers will suffer, after ``spare`` that suffer nothing."""

    spare: int = 0
    drop: int = 0
    corrupt: int = 0
    repeat: bool = False
    late_s: float = 0.0
    unit: int | None = None
    noise: bytes = b""


@dataclass(frozen=True, slots=True)
class _Byte:
    value: int
    due: float  # when its last bit has arrived
    first: bool  # there is a silence before it


@dataclass(slots=True)
class _Wire:
    """One direction: bytes still on their way, and the frame so far."""

    direction: str
    pending: deque[_Byte] = field(default_factory=deque)
    spoken_until: float = 0.0
    frame: bytearray = field(default_factory=bytearray)
    frame_began_at: float = 0.0
    frame_ends_at: float = 0.0

    def speak(self, data: bytes, at: float, char_s: float, silence_s: float) -> None:
        """Put ``data`` on the line from ``at`` on, or right behind what is on its way already."""
        first = at - self.spoken_until > 0.99 * silence_s  # sums of floats are not exact
        self.spoken_until = max(self.spoken_until, at)
        for value in data:
            self.spoken_until += char_s
            self.pending.append(_Byte(value, self.spoken_until, first))
            first = False

    def next_due(self, chunk: int) -> float:
        """When the next piece of at most ``chunk`` bytes of one frame has arrived."""
        due = self.pending[0].due
        for byte in islice(self.pending, 1, chunk):
            if byte.first:
                break
            due = byte.due
        return due

    def arrived(self, now: float) -> bytes:
        """Take the bytes of one frame that have arrived by ``now`` off the line and into the frame."""
        piece = bytearray()
        while self.pending and self.pending[0].due <= now and not (piece and self.pending[0].first):
            byte = self.pending.popleft()
            piece.append(byte.value)
            self.frame_ends_at = byte.due
        self.frame += piece
        return bytes(piece)


class SerialLine:
    """A paced line. Use as a context manager, or ``start`` and ``close``.

    ``frames`` holds the latest frames; ``on_frame`` is called with each from the relay's thread, a request before
    its answer. ``violations`` counts requests that began less than 3.5 characters after the last byte.
    """

    def __init__(
        self, baud: int = 9600, char_bits: int = 10, on_frame: Callable[[Frame], None] | None = None, keep: int = 10_000
    ) -> None:
        self.char_s = char_bits / baud
        self.silence_s = 3.5 * self.char_s if baud <= 19200 else 0.00175
        self.frames: deque[Frame] = deque(maxlen=keep)
        self.violations = 0
        self.local_echo = False
        self._on_frame = on_frame
        self._faults = _Faults()
        self._request, self._answer = _Wire("request"), _Wire("answer")
        self._gathered = bytearray()
        self._gather_until = 0.0
        self._lock = threading.Lock()  # guards _faults, which other threads set
        self._calls: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._folder = tempfile.TemporaryDirectory(prefix="serial-line-")
        self.path = Path(self._folder.name) / "agent"
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._board_fd, self._board_slave = _open_pty()
        self.board_path = os.ttyname(self._board_slave)
        self._agent_fd, self._agent_slave = -1, -1
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="serial-line", daemon=True)
        self._connect()

    def start(self) -> "SerialLine":
        self._thread.start()
        return self

    def close(self) -> None:
        def stop() -> None:
            self._closing = True

        self._in_relay(stop)
        if self._thread.is_alive():
            self._thread.join()
        self._disconnect()
        for fd in (self._board_fd, self._board_slave, self._wake):
            os.close(fd)
        self._folder.cleanup()

    def __enter__(self) -> "SerialLine":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- faults on request

    def drop_answers(self, count: int = 1) -> None:
        """The next ``count`` answers get lost."""
        with self._lock:
            self._faults.drop = count

    def corrupt_answers(self, count: int = 1) -> None:
        """One bit in the middle of each of the next ``count`` answers is flipped."""
        with self._lock:
            self._faults.corrupt = count

    def spare_answers(self, count: int) -> None:
        """The faults below and above act on the answers after the next ``count``."""
        with self._lock:
            self._faults.spare = count

    def repeat_answer(self) -> None:
        """The next answer comes twice, the second time behind a silence."""
        with self._lock:
            self._faults.repeat = True

    def delay_answer(self, late_ms: int) -> None:
        """The next answer comes ``late_ms`` later."""
        with self._lock:
            self._faults.late_s = late_ms / 1000

    def answer_as(self, unit: int) -> None:
        """The next answer is replaced by a sound one of another unit."""
        with self._lock:
            self._faults.unit = unit

    def noise_before_answer(self, data: bytes) -> None:
        """``data`` stands on the line right before the next answer."""
        with self._lock:
            self._faults.noise = data

    def has_faults(self) -> bool:
        """Something is still to go wrong."""
        with self._lock:
            return self._faults != _Faults()

    def noise(self, data: bytes) -> None:
        """``data`` reaches the agent now, unasked."""
        self._in_relay(lambda: self._speak(self._answer, data, time.monotonic()))

    def cut(self) -> None:
        """The agent's port vanishes, as when the USB adapter is pulled: its reads fail and the path is gone."""
        self._in_relay(self._disconnect)

    def restore(self) -> None:
        """The port is back, as another device under the same path."""
        self._in_relay(self._connect)

    # ---- the relay's thread

    def _in_relay(self, call: Callable[[], None]) -> None:
        """Run ``call`` between two turns of the relay, and wait for it."""
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            call()
            return
        done = threading.Event()
        self._calls.append((call, done))
        os.eventfd_write(self._wake, 1)
        done.wait(5)

    def _run(self) -> None:
        while not self._closing:
            fds = [self._wake, self._board_fd, *([self._agent_fd] if self._agent_fd >= 0 else [])]
            ready, _, _ = select.select(fds, [], [], self._until_next(time.monotonic()))
            now = time.monotonic()
            if self._agent_fd in ready:
                self._hear_agent(now)
            if self._board_fd in ready:
                self._hear_board(now)
            self._turn(time.monotonic())
            if self._wake in ready:
                self._run_calls()

    def _run_calls(self) -> None:
        os.eventfd_read(self._wake)
        while self._calls:
            call, done = self._calls.popleft()
            call()
            done.set()

    def _turn(self, now: float) -> None:
        if self._gathered and now >= self._gather_until:
            answer = bytes(self._gathered)
            self._gathered.clear()
            self._speak_answer(answer, now)
        self._deliver(self._request, self._answer, now)
        self._deliver(self._answer, self._request, now)
        for wire in (self._request, self._answer):
            if wire.frame and now >= self._frame_end(wire):
                self._close_frame(wire)

    def _until_next(self, now: float) -> float | None:
        """Seconds until something is due; ``None`` while nothing is."""
        due = [self._gather_until] if self._gathered else []
        for wire in (self._request, self._answer):
            if wire.pending:
                due.append(self._next_delivery(wire))
            elif wire.frame:
                due.append(self._frame_end(wire))
        return max(0.0, min(due) - now) if due else None

    def _next_delivery(self, wire: _Wire) -> float:
        """When the next piece is due: a chunk or what is left; the first byte of an answer on its own, as a master may
        take its coming as the end of the board's thinking."""
        alone = wire is self._answer and not wire.frame
        return wire.next_due(1 if alone else max(1, int(CHUNK_S / self.char_s)))

    def _frame_end(self, wire: _Wire) -> float:
        return wire.frame_ends_at + self.silence_s

    def _hear_agent(self, now: float) -> None:
        data = _read_all(self._agent_fd)
        if data and not (self._request.pending or self._request.frame) and self._too_early(now):
            self.violations += 1
        self._speak(self._request, data, now)

    def _too_early(self, now: float) -> bool:
        """Whether somebody speaks, or spoke less than 3.5 characters ago."""
        speaking = bool(self._answer.pending) and self._answer.pending[0].due - self.char_s <= now
        last_byte_at = max(self._request.frame_ends_at, self._answer.frame_ends_at)
        return speaking or now - last_byte_at < self.silence_s

    def _hear_board(self, now: float) -> None:
        self._gathered += _read_all(self._board_fd)
        self._gather_until = now + GATHER_S

    def _speak_answer(self, answer: bytes, now: float) -> None:
        with self._lock:
            faults = self._faults
            if faults.spare:
                faults.spare -= 1
                faults = _Faults()
            elif faults.drop:
                faults.drop -= 1
                return
            else:
                self._faults = _Faults(corrupt=max(0, faults.corrupt - 1))
        if faults.corrupt:
            answer = _flip_bit(answer)
        if faults.unit is not None:
            answer = _from_unit(answer, faults.unit)
        begin = max(now, max(self._request.spoken_until, self._answer.spoken_until) + self.silence_s)
        self._speak(self._answer, faults.noise + answer, begin + faults.late_s)
        if faults.repeat:
            self._speak(self._answer, answer, self._answer.spoken_until + self.silence_s)

    def _speak(self, wire: _Wire, data: bytes, at: float) -> None:
        wire.speak(data, at, self.char_s, self.silence_s)

    def _deliver(self, wire: _Wire, other: _Wire, now: float) -> None:
        if not wire.pending or now < self._next_delivery(wire):
            return
        if other.frame:
            self._close_frame(other)
        if wire.frame and wire.pending[0].first:
            self._close_frame(wire)
        if not wire.frame:
            wire.frame_began_at = wire.pending[0].due - self.char_s
        piece = wire.arrived(now)
        self._write(self._board_fd if wire is self._request else self._agent_fd, piece)
        if wire is self._request and self.local_echo:
            self._write(self._agent_fd, piece)

    def _write(self, fd: int, piece: bytes) -> None:
        if fd >= 0:
            with suppress(BlockingIOError):  # nobody reads: the bytes are lost, as on a wire
                os.write(fd, piece)

    def _close_frame(self, wire: _Wire) -> None:
        frame = Frame(wire.direction, bytes(wire.frame), wire.frame_began_at, wire.frame_ends_at)
        wire.frame.clear()
        self.frames.append(frame)
        if self._on_frame is not None:
            self._on_frame(frame)

    # ---- the agent's port

    def _connect(self) -> None:
        if self._agent_fd >= 0:
            return
        self._agent_fd, self._agent_slave = _open_pty()
        self.path.symlink_to(os.ttyname(self._agent_slave))

    def _disconnect(self) -> None:
        if self._agent_fd < 0:
            return
        self.path.unlink()
        os.close(self._agent_slave)
        os.close(self._agent_fd)
        self._agent_fd = self._agent_slave = -1


def _open_pty() -> tuple[int, int]:
    """Master and slave, raw. The slave stays open here, so that the master lives on when the other side closes it."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    return master, slave


def _read_all(fd: int) -> bytes:
    data = bytearray()
    with suppress(OSError):  # nothing more; or the other side is gone, which the next turn finds out as well
        while piece := os.read(fd, 4096):
            data += piece
    return bytes(data)


def _flip_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


def _from_unit(answer: bytes, unit: int) -> bytes:
    body = bytes([unit]) + answer[1:-2]
    return body + _crc16(body).to_bytes(2, "little")


def _crc16(data: bytes) -> int:
    """The Modbus CRC, bit by bit (Modbus over serial line 1.02, 6.2.2); the simulator must not share the agent's."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
