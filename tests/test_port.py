"""Opening a serial port: alone, and with a reason when it fails."""

import errno
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from agent.power.port import PortError, open_port


@pytest.fixture
def pty_path() -> Iterator[str]:
    master, slave = pty.openpty()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_opened_as_asked(pty_path: str) -> None:
    with open_port(pty_path, 19200, "N", 2) as port:
        assert (port.baudrate, port.bytesize, port.parity, port.stopbits) == (19200, 8, "N", 2)
        assert port.exclusive


def test_held_alone(pty_path: str) -> None:
    with open_port(pty_path), pytest.raises(PortError, match=f"^{pty_path}: busy: another process holds it$"):
        open_port(pty_path)
    open_port(pty_path).close()  # and free again afterwards


def test_missing() -> None:
    with pytest.raises(PortError, match=r"^/dev/ttyNOWHERE: no such port$"):
        open_port("/dev/ttyNOWHERE")


def test_a_file_and_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PortError, match=r"/file: not a serial port$"):
        open_port(str(tmp_path / "file"))
    with pytest.raises(PortError, match=r"not a serial port but a directory$"):
        open_port(str(tmp_path))


def test_parity_the_port_refuses(pty_path: str) -> None:
    """The first time the C library does not tell (other settings change with it), the second time it does."""
    for _ in range(2):
        with pytest.raises(PortError, match=f"^{pty_path}: the port refuses 9600 baud 8E1 "):
            open_port(pty_path, 9600, "E")
    open_port(pty_path).close()  # nothing was left open or locked


@pytest.mark.parametrize(
    ("baud", "parity", "stop_bits", "settings"),
    [(-1, "N", 1, "-1 baud 8N1"), (9600, "X", 1, "9600 baud 8X1"), (9600, "N", 3, "9600 baud 8N3")],
)
def test_settings_that_do_not_exist(pty_path: str, baud: int, parity: str, stop_bits: int, settings: str) -> None:
    with pytest.raises(PortError, match=f"{settings} is not possible"):
        open_port(pty_path, baud, parity, stop_bits)


def test_permission(pty_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyserial reports it; tests may run as root, whom nothing is forbidden."""

    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise serial.SerialException(errno.EACCES, f"could not open port {pty_path}")

    monkeypatch.setattr(serial, "Serial", forbidden)
    with pytest.raises(PortError, match="permission denied, is the user in the port's group") as caught:
        open_port(pty_path)
    assert caught.value.path == pty_path
