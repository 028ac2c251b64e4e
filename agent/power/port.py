"""Opening a serial port for the agent alone, with a reason in plain words when that fails."""

import errno
import termios

import serial

_REASONS = {
    errno.ENOENT: "no such port",
    errno.EACCES: "permission denied, is the user in the port's group (dialout)?",
    errno.EPERM: "permission denied",
    errno.EAGAIN: "busy: another process holds it",
    errno.EBUSY: "busy: another process holds it",
    errno.EISDIR: "not a serial port but a directory",
    errno.ENOTTY: "not a serial port",
    errno.ENXIO: "no hardware behind it",
    errno.ENODEV: "no hardware behind it",
    errno.EIO: "no hardware behind it",
}

_PARITY_FLAGS = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


class PortError(Exception):
    """A port that could not be opened; ``path`` and ``reason`` say which and why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def open_port(path: str, baud: int = 9600, parity: str = "N", stop_bits: int = 1) -> serial.Serial:
    """Open ``path`` raw with 8 data bits and hold it alone (``flock``).

    ``parity`` is N, E or O. Raises PortError: missing, busy, forbidden, not a tty, or a setting the port refuses.
    """
    settings = f"{baud} baud 8{parity}{stop_bits}"
    if parity not in _PARITY_FLAGS:
        raise PortError(path, f"{settings} is not possible: parity is N, E or O")
    try:
        # The timeouts only serve those who use the port without cext.rtu: a slip must not block a worker for ever.
        port = serial.Serial(
            path, baud, parity=parity, stopbits=stop_bits, exclusive=True, timeout=0.0, write_timeout=1.0
        )
    except (serial.SerialException, termios.error) as error:
        raise PortError(path, _reason(error, settings)) from error
    except (ValueError, OverflowError) as error:
        raise PortError(path, f"{settings} is not possible: {error}") from error
    if not _has_parity(port, parity):
        port.close()
        raise PortError(path, _refused(settings))
    return port


def _has_parity(port: serial.Serial, parity: str) -> bool:
    """Whether the parity was taken: a pty has none, and the C library only says so if nothing else changed either."""
    flags: int = termios.tcgetattr(port.fileno())[2]
    return flags & (termios.PARENB | termios.PARODD) == _PARITY_FLAGS[parity]


def _refused(settings: str) -> str:
    return f"the port refuses {settings} (a pseudo-terminal has no parity)"


def _reason(error: Exception, settings: str) -> str:
    number = _errno(error)
    return _refused(settings) if number == errno.EINVAL else _REASONS.get(number, str(error))


def _errno(error: Exception) -> int:
    """The number behind an error: pyserial passes it on, or hides the termios error that has it as context."""
    for candidate in (error, error.__context__):
        if candidate is not None and candidate.args and isinstance(candidate.args[0], int):
            return candidate.args[0]
    return 0
