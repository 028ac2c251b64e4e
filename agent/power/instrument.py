"""minimalmodbus' typed API on our framing: every call is one transaction of ``cext.rtu``, without the GIL.

    port = open_port("/dev/ttyS1", 9600)
    board, meter = Instrument(port, 1), Instrument(port, 2)
    board.read_register(0x0010, number_of_decimals=1, signed=True)
    meter.read_long(0x0100)
    board.read_array(0x0200, 60)          # no list, for block reads

Instruments on one port share its Line, and one thread may use them. Replaced are minimalmodbus' framing, its waiting
and its block reads and writes; its types, byte orders and argument checks are its own. Errors: ``agent.power.errors``.
"""

from array import array
from collections.abc import Sequence
from operator import attrgetter
from weakref import WeakKeyDictionary

import minimalmodbus
import serial

from agent.power.errors import PortLost, bus_error
from agent.power.port import open_port
from cext import rtu

_lines: WeakKeyDictionary[serial.Serial, tuple[tuple[object, ...], rtu.Line]] = WeakKeyDictionary()

# What a Line depends on. Asked at each transaction, after a sleep that left the caches cold: pyserial's properties of
# the same would be six functions, a tenth of a transaction's CPU.
_settings = attrgetter("fd", "_baudrate", "_parity", "_stopbits")


def line_on(port: serial.Serial) -> rtu.Line:
    """The one Line of an open port; a new one once the port was reopened or its settings changed.

    Raises serial.PortNotOpenError for a closed port.
    """
    fd, settings = port.fileno(), _settings(port)
    known, line = _lines.get(port, ((), None))
    if line is None or known != settings:
        line = rtu.Line(fd, port.baudrate, _char_bits(port))
        _lines[port] = settings, line
    return line


def _char_bits(port: serial.Serial) -> int:
    """Start bit, 8 data bits, parity bit if any, stop bits."""
    return 9 + (port.parity != serial.PARITY_NONE) + round(port.stopbits)


class Instrument(minimalmodbus.Instrument):  # type: ignore[misc]  # minimalmodbus has no types
    """One device on a line.

    ``port`` is an open ``serial.Serial``, best from ``open_port``; a name is opened exclusively at minimalmodbus'
    19200 8N1, and a second device on that line takes the first one's ``.serial``. The times are those of ``rtu.Line``
    and the device's own; ``answer_ms``, ``margin_ms`` and ``handle_local_echo`` may be changed later.

    Not there: ASCII mode, closing the port after each call (it would give up the lock on it), debug printing (``line``
    keeps the latest frames). ``precalculate_read_size`` and ``clear_buffers_before_each_transaction`` are always so.
    """

    def __init__(
        self,
        port: serial.Serial | str,
        unit: int,
        *,
        local_echo: bool = False,
        answer_ms: int = 200,
        margin_ms: int = 18,
    ) -> None:
        super().__init__(open_port(port, 19200) if isinstance(port, str) else port, unit)
        self.handle_local_echo = local_echo
        self.answer_ms = answer_ms
        self.margin_ms = margin_ms
        self._line = line_on(self.serial)
        self._line_settings = _settings(self.serial)

    @property
    def line(self) -> rtu.Line:
        """The port's, as it is open now; kept, for looking among all lines costs another tenth."""
        settings = _settings(self.serial)
        if settings != self._line_settings:
            self._line = line_on(self.serial)
            self._line_settings = settings
        return self._line

    def read_registers(self, registeraddress: int, number_of_registers: int, functioncode: int = 3) -> list[int]:
        """1..125 registers (function 3 or 4) as 0..65535 each."""
        return rtu.register_list(self._read_registers(registeraddress, number_of_registers, functioncode))

    def read_array(self, registeraddress: int, number_of_registers: int, functioncode: int = 3) -> "array[int]":
        """The same as ``array("H")``, which costs a quarter of a list."""
        return rtu.registers(self._read_registers(registeraddress, number_of_registers, functioncode))

    def _read_registers(self, address: int, count: int, function: int) -> bytes:
        if function != 3 and function != 4:
            raise ValueError(f"function {function}, expected 3 or 4")
        return self._communicate(rtu.read_request(self.address, function, address, count))

    def write_registers(self, registeraddress: int, values: "Sequence[int] | array[int]") -> None:
        """1..123 registers (function 16) of 0..65535 each, in one frame."""
        self._communicate(rtu.write_registers_request(self.address, registeraddress, values))

    def write_bytes(self, registeraddress: int, head: bytes, data: memoryview, number_of_registers: int) -> None:
        """1..123 registers (function 16) given as bytes: ``head``, ``data``, then zeros."""
        self._communicate(rtu.write_bytes_request(self.address, registeraddress, head, data, number_of_registers))

    def read_write_registers(
        self, read_address: int, read_count: int, write_address: int, values: "Sequence[int] | array[int]"
    ) -> list[int]:
        """Write 1..121 registers, then read 1..125, in one frame (function 23, which minimalmodbus lacks)."""
        request = rtu.read_write_registers_request(self.address, read_address, read_count, write_address, values)
        return rtu.register_list(self._communicate(request))

    def read_bits(self, registeraddress: int, number_of_bits: int, functioncode: int = 2) -> list[int]:
        """1..2000 bits (function 1 or 2) as 0 or 1 each."""
        if functioncode not in (1, 2):
            raise ValueError(f"function {functioncode}, expected 1 or 2")
        request = rtu.read_request(self.address, functioncode, registeraddress, number_of_bits)
        return rtu.bits(self._communicate(request), number_of_bits)

    def write_bits(self, registeraddress: int, values: Sequence[int]) -> None:
        """1..1968 bits (function 15) of 0 or 1 each, in one frame."""
        self._communicate(rtu.write_coils_request(self.address, registeraddress, values))

    def _perform_command(self, functioncode: int, payload_to_slave: bytes) -> bytes:
        """Where minimalmodbus' single-value methods end: their payload out, the answer's payload back."""
        return self._communicate(rtu.frame(self.address, functioncode, payload_to_slave))[2:-2]

    def _communicate(self, request: bytes, number_of_bytes_to_read: int = 0) -> bytes:
        """One transaction. The expected length is known from the request; minimalmodbus' own count is not needed."""
        line = self.line
        line.local_echo = self.handle_local_echo
        line.answer_ms = self.answer_ms
        line.margin_ms = self.margin_ms
        try:
            return line.transact(request)
        except rtu.RtuError as fact:
            raise bus_error(fact) from fact
        except rtu.PortGone as fact:
            raise PortLost(self.serial.port, fact) from fact
        finally:
            self._latest_roundtrip_time = line.last_elapsed_us / 1e6
