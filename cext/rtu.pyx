# cython: language_level=3, cdivision=True
"""Modbus RTU: frames to values and back, and one blocking transaction on a serial line. The contract is in rtu.pyi."""

from array import array
from os import set_blocking, strerror

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.sequence cimport PySequence_Repeat
from libc.errno cimport EAGAIN, EINTR, EIO, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, TIMER_ABSTIME, clock_gettime, clock_nanosleep, timespec
from posix.unistd cimport read, write

cdef extern from "Python.h":
    PyObject *PyLong_FromLong(long number) except NULL

cdef extern from *:  # a wheel is for every Python from 3.11 on (abi3)
    """
    #ifdef Py_LIMITED_API
    #define PyList_SET_ITEM PyList_SetItem
    #endif
    """
    void PyList_SET_ITEM(list values, Py_ssize_t index, PyObject *value)  # takes the reference

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    const short POLLIN
    const short POLLOUT
    int ppoll(pollfd *fds, unsigned long count, const timespec *timeout, const void *signals)

cdef extern from "<sys/prctl.h>" nogil:
    const int PR_SET_TIMERSLACK
    int prctl(int option, unsigned long value)

cdef extern from "<termios.h>" nogil:
    const int TCOFLUSH
    int tcflush(int fd, int queue)


# ---------------------------------------------------------------------------------------------------- errors

class RtuError(Exception):
    def __init__(self, request, answer, elapsed_ms=0.0, what=""):
        super().__init__(request, answer, elapsed_ms, what)
        self.request = request
        self.answer = answer
        self.elapsed_ms = elapsed_ms
        self.what = what

    def __str__(self):
        text = f"asked {self.request.hex(' ')}, got {self.answer.hex(' ') or 'nothing'}"
        if self.elapsed_ms:
            text += f" in {self.elapsed_ms:.0f} ms"
        return f"{text}: {self.what}" if self.what else text


class NoAnswer(RtuError):
    pass


class HalfAnswer(RtuError):
    pass


class BadChecksum(RtuError):
    pass


class WrongUnit(RtuError):
    pass


class WrongAnswer(RtuError):
    pass


class EchoMismatch(RtuError):
    pass


class LineBusy(RtuError):
    pass


EXCEPTION_NAMES = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge",
    6: "server device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}


class ExceptionReply(RtuError):
    def __init__(self, request, answer, elapsed_ms=0.0):
        self.code = answer[2]
        self.name = EXCEPTION_NAMES.get(self.code, "not in the Modbus specification")
        super().__init__(request, answer, elapsed_ms, f"exception {self.code}, {self.name}")


class PortGone(OSError):
    pass


# -------------------------------------------------------------------------------------------------- checksum

cdef uint16_t _table[8][256]  # _table[k][b]: what byte b adds to the checksum when k more bytes follow it


cdef void _fill_table() noexcept nogil:
    cdef int value, k, _bit
    cdef uint16_t crc
    for value in range(256):
        crc = value
        for _bit in range(8):
            crc = (crc >> 1) ^ (0xA001 if crc & 1 else 0)
        _table[0][value] = crc
    for k in range(1, 8):
        for value in range(256):
            crc = _table[k - 1][value]
            _table[k][value] = (crc >> 8) ^ _table[0][crc & 0xFF]


_fill_table()


cdef uint16_t _crc(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef uint16_t crc = 0xFFFF
    while size >= 8:
        crc ^= data[0] | (data[1] << 8)
        crc = (_table[7][crc & 0xFF] ^ _table[6][crc >> 8] ^ _table[5][data[2]] ^ _table[4][data[3]]
               ^ _table[3][data[4]] ^ _table[2][data[5]] ^ _table[1][data[6]] ^ _table[0][data[7]])
        data += 8
        size -= 8
    while size > 0:
        crc = (crc >> 8) ^ _table[0][(crc ^ data[0]) & 0xFF]
        data += 1
        size -= 1
    return crc


def crc16(data):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return _crc(<const uint8_t *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


# -------------------------------------------------------------------------------------------------- requests

cdef enum:
    FRAME_MAX = 256       # Modbus over serial line 2.5.1
    EXCEPTION_LENGTH = 5  # also the least any answer has
    WRITE_ANSWER_LENGTH = 8


cdef int _check_range(str what, long long value, long long low, long long high) except -1:
    if not low <= value <= high:
        raise ValueError(f"{what} {value}, expected {low}..{high}")
    return 0


cdef int _check_window(str what, long long address, long long count, long long most) except -1:
    _check_range("address", address, 0, 0xFFFF)
    _check_range(f"number of {what}", count, 1, most)
    if address + count > 0x10000:
        raise ValueError(f"address {address} and {count} {what} pass the last address, 65535")
    return 0


cdef bytes _frame(uint8_t *body, Py_ssize_t size):
    """The body with its checksum; the caller left room for two more bytes."""
    cdef uint16_t crc = _crc(body, size)
    body[size] = crc & 0xFF
    body[size + 1] = crc >> 8
    return PyBytes_FromStringAndSize(<char *>body, size + 2)


cdef inline uint8_t *_put(uint8_t *at, int value) noexcept nogil:
    at[0] = value >> 8
    at[1] = value & 0xFF
    return at + 2


cdef inline int _take(const uint8_t *at) noexcept nogil:
    return (at[0] << 8) | at[1]


cdef uint8_t *_begin(uint8_t *body, long long unit, int function, long long lowest_unit) except NULL:
    _check_range("unit", unit, lowest_unit, 247)
    body[0] = unit
    body[1] = function
    return body + 2


cdef uint8_t *_put_registers(uint8_t *at, list values) except NULL:
    cdef long long value
    cdef Py_ssize_t index
    at[0] = 2 * len(values)
    at += 1
    for index in range(len(values)):
        value = values[index]
        if not 0 <= value <= 0xFFFF:
            raise ValueError(f"value {index} is {value}, a register holds 0..65535")
        at = _put(at, value)
    return at


def frame(unit, function, payload):
    cdef uint8_t body[FRAME_MAX]
    cdef const uint8_t *data = payload
    cdef Py_ssize_t size = len(payload)
    _check_range("function", function, 1, 127)
    _check_range("payload length", size, 0, FRAME_MAX - 4)
    cdef uint8_t *at = _begin(body, unit, function, 0)
    for index in range(size):
        at[index] = data[index]
    return _frame(body, 2 + size)


def read_request(unit, function, address, count):
    cdef uint8_t body[8]
    _check_range("function", function, 1, 4)
    if function <= 2:
        _check_window("bits", address, count, 2000)
    else:
        _check_window("registers", address, count, 125)
    _put(_put(_begin(body, unit, function, 1), address), count)
    return _frame(body, 6)


def write_single_request(unit, function, address, value):
    cdef uint8_t body[8]
    _check_range("function", function, 5, 6)
    _check_range("address", address, 0, 0xFFFF)
    _check_range("value", value, 0, 1 if function == 5 else 0xFFFF)
    _put(_put(_begin(body, unit, function, 0), address), 0xFF00 * value if function == 5 else value)
    return _frame(body, 6)


def write_coils_request(unit, address, bits):
    cdef uint8_t body[FRAME_MAX]
    cdef list states = list(bits)
    cdef Py_ssize_t index, count = len(states), octets = (count + 7) // 8
    _check_window("bits", address, count, 0x7B0)
    cdef uint8_t *at = _put(_put(_begin(body, unit, 15, 0), address), count)
    at[0] = octets
    for index in range(octets):
        at[1 + index] = 0
    for index in range(count):
        _check_range("bit", states[index], 0, 1)
        at[1 + index // 8] |= <int>states[index] << (index % 8)
    return _frame(body, 7 + octets)


def write_registers_request(unit, address, values):
    cdef uint8_t body[FRAME_MAX]
    cdef list words = list(values)
    _check_window("registers", address, len(words), 123)
    cdef uint8_t *at = _put(_put(_begin(body, unit, 16, 0), address), len(words))
    return _frame(body, _put_registers(at, words) - body)


def write_bytes_request(unit, address, bytes head not None, data, count):
    cdef uint8_t body[FRAME_MAX]
    cdef Py_buffer view
    cdef uint8_t *at
    cdef Py_ssize_t used
    _check_window("registers", address, count, 123)
    at = _put(_put(_begin(body, unit, 16, 0), address), count)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        used = len(head) + view.len
        if used > 2 * count:
            raise ValueError(f"{len(head)} and {view.len} bytes, {count} registers hold {2 * count}")
        at[0] = 2 * count
        memcpy(at + 1, <const uint8_t *>head, len(head))
        memcpy(at + 1 + len(head), view.buf, view.len)
        memset(at + 1 + used, 0, 2 * count - used)
    finally:
        PyBuffer_Release(&view)
    return _frame(body, 7 + 2 * count)


def read_write_registers_request(unit, read_address, read_count, write_address, values):
    cdef uint8_t body[FRAME_MAX]
    cdef list words = list(values)
    _check_window("registers", read_address, read_count, 125)
    _check_window("registers", write_address, len(words), 121)
    cdef uint8_t *at = _put(_put(_begin(body, unit, 23, 1), read_address), read_count)
    at = _put(_put(at, write_address), len(words))
    return _frame(body, _put_registers(at, words) - body)


# --------------------------------------------------------------------------------------------------- answers

cdef Py_ssize_t _answer_length(bytes request) except -1:
    cdef const uint8_t *asked = request
    cdef Py_ssize_t length
    _check_range("request length", len(request), 8, FRAME_MAX)
    cdef int function = asked[1]
    if function == 1 or function == 2:
        length = 5 + (_take(asked + 4) + 7) // 8
    elif function == 3 or function == 4 or function == 23:
        length = 5 + 2 * _take(asked + 4)
    elif function == 5 or function == 6 or function == 15 or function == 16:
        length = WRITE_ANSWER_LENGTH
    else:
        raise ValueError(f"function {function}, expected one of 1-6, 15, 16, 23")
    if length > FRAME_MAX:
        raise ValueError(f"count {_take(asked + 4)} in {request.hex(' ')} asks for more than a frame can hold")
    return length if asked[0] else 0


def answer_length(bytes request not None):
    return _answer_length(request)


cdef bint _crc_fits(const uint8_t *frame, Py_ssize_t size) noexcept nogil:
    return _crc(frame, size - 2) == (frame[size - 2] | (frame[size - 1] << 8))


cdef inline bint _is_stray(const uint8_t *asked, const uint8_t *got, Py_ssize_t size) noexcept nogil:
    """Whether the first bytes already show that this is no answer to ``asked``."""
    return size > 0 and got[0] != asked[0] or size > 1 and (got[1] & 0x7F) != asked[1]


cdef object _stray_error(bytes request, bytes answer, double elapsed_ms):
    cdef const uint8_t *got = answer
    if len(answer) < EXCEPTION_LENGTH or not _crc_fits(got, len(answer)):
        return BadChecksum(request, answer, elapsed_ms, "not a whole frame of anybody")
    if got[0] != request[0]:
        return WrongUnit(request, answer, elapsed_ms, f"unit {got[0]} answered, expected {request[0]}")
    return WrongAnswer(request, answer, elapsed_ms, f"function {got[1]}, expected {request[1]}")


cdef int _check_fields(bytes request, bytes answer, double elapsed_ms, Py_ssize_t length) except -1:
    cdef const uint8_t *asked = request
    cdef const uint8_t *got = answer
    if asked[1] in (5, 6, 15, 16):
        if memcmp(asked + 2, got + 2, 4) != 0:
            what = f"confirms {answer[2:6].hex(' ')}, expected {request[2:6].hex(' ')}"
            raise WrongAnswer(request, answer, elapsed_ms, what)
    elif got[2] != length - 5:
        raise WrongAnswer(request, answer, elapsed_ms, f"byte count {got[2]}, expected {length - 5}")
    return 0


cdef int _check(bytes request, bytes answer, double elapsed_ms) except -1:
    cdef const uint8_t *got = answer
    cdef Py_ssize_t size = len(answer), length = _answer_length(request)
    if size == 0:
        raise NoAnswer(request, answer, elapsed_ms)
    if _is_stray(request, got, size):
        raise _stray_error(request, answer, elapsed_ms)
    cdef bint exception = size > 1 and got[1] & 0x80
    if exception:
        length = EXCEPTION_LENGTH
    if size < length:
        raise HalfAnswer(request, answer, elapsed_ms, f"{size} of {length} bytes")
    if not _crc_fits(got, length):
        expected = _crc(got, length - 2).to_bytes(2, "little").hex(" ")
        raise BadChecksum(request, answer, elapsed_ms, f"checksum of the first {length} bytes is {expected}")
    if exception:
        raise ExceptionReply(request, answer, elapsed_ms)
    if size > length:
        raise WrongAnswer(request, answer, elapsed_ms, f"{size} bytes, expected {length}")
    return _check_fields(request, answer, elapsed_ms, length)


def check_answer(bytes request not None, bytes answer not None):
    if _answer_length(request) == 0:
        raise ValueError(f"{request.hex(' ')} is a broadcast, nobody answers it")
    _check(request, answer, 0.0)
    return answer


cdef object _one_register = array("H", [0])


cdef Py_ssize_t _count_octets(bytes answer, str unit) except -1:
    """How many bytes follow the byte count, which must be so many: what is decoded lies within the answer."""
    cdef Py_ssize_t octets = len(answer) - EXCEPTION_LENGTH
    if octets < 0 or (<const uint8_t *>answer)[2] != octets:
        raise ValueError(f"{answer.hex(' ')} is no answer with a byte count and as many bytes of {unit}")
    return octets


cdef Py_ssize_t _count_registers(bytes answer) except -1:
    cdef Py_ssize_t octets = _count_octets(answer, "registers")
    if octets % 2:
        raise ValueError(f"{answer.hex(' ')} has {octets} bytes, two make a register")
    return octets // 2


def registers(bytes answer not None):
    cdef const uint8_t *data = <const uint8_t *>answer + 3
    cdef Py_ssize_t index, count = _count_registers(answer)
    cdef object values = PySequence_Repeat(_one_register, count)
    cdef Py_buffer view
    PyObject_GetBuffer(values, &view, PyBUF_WRITABLE)
    for index in range(count):
        (<uint16_t *>view.buf)[index] = _take(data + 2 * index)
    PyBuffer_Release(&view)
    return values


def register_list(bytes answer not None):
    cdef const uint8_t *data = <const uint8_t *>answer + 3
    cdef Py_ssize_t index, count = _count_registers(answer)
    cdef list values = PyList_New(count)
    for index in range(count):
        PyList_SET_ITEM(values, index, PyLong_FromLong(_take(data + 2 * index)))
    return values


def bits(bytes answer not None, Py_ssize_t count):
    cdef const uint8_t *data = <const uint8_t *>answer + 3
    cdef Py_ssize_t index, octets = _count_octets(answer, "bits")
    if octets != (count + 7) // 8:
        raise ValueError(f"{answer.hex(' ')} does not hold the bytes of {count} bits")
    return [(data[index // 8] >> (index % 8)) & 1 for index in range(count)]


# ------------------------------------------------------------------------------------------------------ line

cdef inline int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef void _sleep_until(int64_t when_ns) noexcept nogil:
    cdef timespec when
    when.tv_sec = when_ns // 1000000000
    when.tv_nsec = when_ns % 1000000000
    if when_ns > _now_ns():
        while clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR:
            pass


cdef enum Step:
    GONE = -1      # the descriptor is dead, self.error says why
    EXPIRED = 0    # the deadline passed first
    DONE = 1
    BUSY = 2       # the line never fell silent
    STUCK = 3      # the port takes no more bytes
    BAD_ECHO = 4


cdef class Line:
    cdef readonly int fd
    cdef readonly int baud
    cdef readonly int char_bits
    cdef public bint local_echo
    cdef public int answer_ms
    cdef public int margin_ms
    cdef public int turnaround_ms
    cdef readonly bytes last_request
    cdef readonly bytes last_answer

    cdef bint in_use
    cdef bint is_prompt              # the owner's timers are
    cdef int error                   # errno of a port that is gone
    cdef int64_t quiet_ns
    cdef int64_t free_at_ns          # until then the line must stay silent
    cdef int64_t begun_ns            # first byte of the request
    cdef int64_t sent_ns             # when its last byte has left the wire
    cdef int64_t heard_ns            # latest byte heard
    cdef int64_t ended_ns
    cdef uint8_t heard[2 * FRAME_MAX]  # an echo and an answer
    cdef Py_ssize_t have             # bytes in heard
    cdef Py_ssize_t start            # where the answer begins in it: after the echo
    cdef Py_ssize_t limit            # how many to take from the port at most

    def __init__(self, int fd, int baud, int char_bits=10, *, bint local_echo=False, int answer_ms=200,
                 int margin_ms=18, int turnaround_ms=100, quiet_us=None):
        _check_range("baud", baud, 50, 4000000)
        _check_range("char_bits", char_bits, 10, 12)
        set_blocking(fd, False)
        self.fd = fd
        self.baud = baud
        self.char_bits = char_bits
        self.local_echo = local_echo
        self.answer_ms = answer_ms
        self.margin_ms = margin_ms
        self.turnaround_ms = turnaround_ms
        self.last_request = self.last_answer = b""
        if quiet_us is not None:
            self.quiet_ns = <int64_t>(quiet_us * 1000)
        else:
            self.quiet_ns = 1750000 if baud > 19200 else self._wire_ns(7) // 2
        self.free_at_ns = _now_ns() + self.quiet_ns  # nobody knows when the line was last used

    @property
    def char_us(self):
        return self._wire_ns(1) / 1000.0

    @property
    def quiet_us(self):
        return self.quiet_ns / 1000.0

    @property
    def last_elapsed_us(self):
        return (self.ended_ns - self.begun_ns) // 1000

    def transact(self, bytes request not None):
        cdef Py_ssize_t length = _answer_length(request), size = len(request)
        cdef const uint8_t *asked = request
        cdef int step
        if self.in_use:
            raise RuntimeError("two threads on one line: a line has one owner")
        self.in_use = True
        if not self.is_prompt:
            self.is_prompt = prctl(PR_SET_TIMERSLACK, 1) == 0  # else each of 3 to 4 sleeps is up to 50 µs late
        with nogil:
            step = self._exchange(asked, size, length)
            self.ended_ns = _now_ns()
        self.in_use = False
        self.last_request = request
        self.last_answer = PyBytes_FromStringAndSize(<char *>self.heard + self.start, self.have - self.start)
        return self._verdict(step, length)

    cdef bytes _verdict(self, int step, Py_ssize_t length):
        cdef double elapsed_ms = (self.ended_ns - self.begun_ns) / 1e6
        cdef bytes request = self.last_request, answer = self.last_answer
        if step == GONE:
            raise PortGone(self.error, f"{strerror(self.error)} while asking {request.hex(' ')}")
        if step == BUSY:
            raise LineBusy(request, answer, elapsed_ms, "the line does not fall silent, nothing was sent")
        if step == STUCK:
            raise NoAnswer(request, answer, elapsed_ms, "the port does not take the request")
        if step == BAD_ECHO:
            raise EchoMismatch(request, answer, elapsed_ms, "not the local echo of the request")
        if length:
            _check(request, answer, elapsed_ms)
        return answer

    cdef inline int64_t _wire_ns(self, int64_t size) noexcept nogil:
        return size * self.char_bits * 1000000000 // self.baud

    cdef inline int64_t _margin_ns(self) noexcept nogil:
        return <int64_t>self.margin_ms * 1000000

    cdef int _exchange(self, const uint8_t *asked, Py_ssize_t size, Py_ssize_t length) noexcept nogil:
        cdef int step
        self.begun_ns = _now_ns()
        self.start = 0
        step = self._await_silence()
        if step == DONE:
            step = self._send(asked, size)
        if step == DONE and self.local_echo:
            step = self._hear_echo(asked, size)
        if step != DONE:
            return step
        if length == 0:
            self.free_at_ns = max(self.free_at_ns, self.sent_ns + <int64_t>self.turnaround_ms * 1000000)
            return DONE
        step = self._hear_answer(asked, length)
        if step == DONE:  # the answer proves that the request has left the wire, however long that was reckoned to take
            self.free_at_ns = self.heard_ns + self.quiet_ns
        return step

    cdef int _await_silence(self) noexcept nogil:
        """Keep the silent interval and drop what came unasked; such bytes start the interval again."""
        cdef int got
        cdef int64_t give_up_ns = max(self.begun_ns, self.free_at_ns) + self._wire_ns(2 * FRAME_MAX) + self._margin_ns()
        while True:
            _sleep_until(self.free_at_ns)
            self.have = 0
            self.limit = 2 * FRAME_MAX
            got = self._read()
            if got == 0:
                return DONE
            if got < 0:
                return GONE
            if self.heard_ns > give_up_ns:
                return BUSY

    cdef int _send(self, const uint8_t *asked, Py_ssize_t size) noexcept nogil:
        cdef Py_ssize_t done, sent = 0
        cdef int step
        self.begun_ns = _now_ns()
        while sent < size:
            done = write(self.fd, asked + sent, size - sent)
            if done > 0:
                sent += done
            elif done == 0 or errno == EAGAIN:
                step = self._wait(POLLOUT, self.begun_ns + self._wire_ns(FRAME_MAX) + self._margin_ns())
                if step == EXPIRED:
                    tcflush(self.fd, TCOFLUSH)  # else the rest of this request would precede the next one
                    return STUCK
                if step == GONE:
                    return GONE
            elif errno != EINTR:
                return self._gone(errno)
        self.sent_ns = _now_ns() + self._wire_ns(size)
        self.free_at_ns = self.sent_ns + self.quiet_ns
        return DONE

    cdef int _hear_echo(self, const uint8_t *asked, Py_ssize_t size) noexcept nogil:
        cdef int step
        self.limit = size
        step = self._gather(size, self.sent_ns + self.quiet_ns + self._margin_ns())
        if step == GONE:
            return GONE
        if step == EXPIRED or memcmp(self.heard, asked, size) != 0:
            return BAD_ECHO
        self.start = size
        return DONE

    cdef int _hear_answer(self, const uint8_t *asked, Py_ssize_t length) noexcept nogil:
        """Hear what the first bytes announce: the whole answer, an exception, or somebody else's frame to its end.

        The length comes from the request alone; what was heard is judged afterwards.
        """
        cdef int step
        cdef int64_t deadline_ns = self.sent_ns + self.quiet_ns + <int64_t>self.answer_ms * 1000000
        self.limit = self.start + length
        step = self._gather(self.start + 1, deadline_ns)
        if step != DONE:
            return step
        deadline_ns = self.heard_ns + self._wire_ns(self.limit - self.have) + self._margin_ns()
        if not _is_stray(asked, self.heard + self.start, self.have - self.start):
            step = self._gather(self.start + 2, deadline_ns)
            if step != DONE:
                return step
        if _is_stray(asked, self.heard + self.start, self.have - self.start):
            return self._hear_out()
        if self.heard[self.start + 1] & 0x80:
            self.limit = self.start + EXCEPTION_LENGTH
        return self._gather(self.limit, deadline_ns)

    cdef int _hear_out(self) noexcept nogil:
        """Read on until the line is quiet, at most for the time of the longest frame."""
        cdef int step
        cdef int64_t end_ns = self.heard_ns + self._wire_ns(FRAME_MAX) + self._margin_ns()
        self.limit = self.start + FRAME_MAX
        while self.have < self.limit:
            step = self._wait(POLLIN, min(self.heard_ns + self.quiet_ns + self._margin_ns(), end_ns))
            if step != DONE:
                return step
            step = self._read()
            if step <= 0:
                return self._gone(EIO) if step == 0 else GONE
        return EXPIRED

    cdef int _gather(self, Py_ssize_t target, int64_t deadline_ns) noexcept nogil:
        """Read until ``target`` bytes are there.

        Once some came it sleeps until the rest can be there: one wake-up instead of one a byte. Mostly it is then.
        """
        cdef int step
        while self.have < target:
            if self.have > self.start:
                _sleep_until(min(self.heard_ns + self._wire_ns(target - self.have), deadline_ns))
                step = self._read()
                if step > 0:
                    continue
                if step < 0:
                    return GONE
            step = self._wait(POLLIN, deadline_ns)
            if step != DONE:
                return step
            step = self._read()
            if step <= 0:
                return self._gone(EIO) if step == 0 else GONE  # ready, but nothing to read: hung up
        return DONE

    cdef int _read(self) noexcept nogil:
        """Take all that is there, up to ``limit``. Returns how many bytes came, or GONE."""
        cdef Py_ssize_t got, before = self.have
        while self.have < self.limit:  # a tty hands out 64 bytes, or fewer where its ring wraps: ask until it is dry
            got = read(self.fd, self.heard + self.have, self.limit - self.have)
            if got > 0:
                self.have += got
            elif got == 0 or errno == EAGAIN:  # raw ttys say 0 (VMIN is 0), other descriptors EAGAIN
                break
            elif errno != EINTR:
                return self._gone(errno)
        if self.have > before:
            self.heard_ns = _now_ns()
            self.free_at_ns = max(self.free_at_ns, self.heard_ns + self.quiet_ns)
        return <int>(self.have - before)

    cdef int _wait(self, short events, int64_t deadline_ns) noexcept nogil:
        """DONE when the port is ready, or dead, which the next read or write tells; EXPIRED; GONE."""
        cdef pollfd port
        cdef timespec left
        cdef int64_t left_ns
        cdef int ready
        port.fd = self.fd
        port.events = events
        while True:
            left_ns = max(deadline_ns - _now_ns(), 0)
            left.tv_sec = left_ns // 1000000000
            left.tv_nsec = left_ns % 1000000000
            ready = ppoll(&port, 1, &left, NULL)
            if ready > 0:
                return DONE
            if ready == 0:
                return EXPIRED
            if errno != EINTR:
                return self._gone(errno)

    cdef int _gone(self, int error) noexcept nogil:
        self.error = error
        return GONE
