"""What can go wrong on the bus, as minimalmodbus' users know it: its exception types, each keeping the fact behind it.

    minimalmodbus.ModbusException
      MasterReportedException
        NoResponseError            DeviceSilent     nothing came, or the line was never free
        InvalidResponseError       AnswerUnusable   half, garbled, foreign or contradicting
        LocalEchoError             EchoWrong        the adaptor did not give back what was sent
      SlaveReportedException       DeviceFailed     exception 4, 5, 8 and above
        IllegalRequestError        DeviceRefused    exception 1, 2, 3
        SlaveDeviceBusyError       DeviceBusy       exception 6
        NegativeAcknowledgeError   DeviceDeclined   exception 7
    serial.SerialException         PortLost         the port is gone and must be opened again

``fact`` is the error of ``cext.rtu``: request and answer in hex, elapsed time, exception code.
"""

import minimalmodbus
import serial

from cext import rtu


class BusError(OSError):
    """Any of the above but PortLost: a transaction that did not bring its answer."""

    def __init__(self, fact: rtu.RtuError) -> None:
        super().__init__(str(fact))
        self.fact = fact


class DeviceSilent(BusError, minimalmodbus.NoResponseError):  # type: ignore[misc]  # minimalmodbus has no types
    pass


class AnswerUnusable(BusError, minimalmodbus.InvalidResponseError):  # type: ignore[misc]
    pass


class EchoWrong(BusError, minimalmodbus.LocalEchoError):  # type: ignore[misc]
    pass


class DeviceFailed(BusError, minimalmodbus.SlaveReportedException):  # type: ignore[misc]
    pass


class DeviceRefused(BusError, minimalmodbus.IllegalRequestError):  # type: ignore[misc]
    pass


class DeviceBusy(BusError, minimalmodbus.SlaveDeviceBusyError):  # type: ignore[misc]
    pass


class DeviceDeclined(BusError, minimalmodbus.NegativeAcknowledgeError):  # type: ignore[misc]
    pass


class PortLost(serial.SerialException):
    """The port was unplugged, hung up or closed."""

    def __init__(self, port: str, fact: rtu.PortGone) -> None:
        super().__init__(fact.errno, f"{port}: {fact.strerror}")
        self.fact = fact


class NotAppliedError(Exception):
    """What was read back differs from what was written."""


_BY_CODE: dict[int, type[BusError]] = {
    1: DeviceRefused,
    2: DeviceRefused,
    3: DeviceRefused,
    6: DeviceBusy,
    7: DeviceDeclined,
}


def bus_error(fact: rtu.RtuError) -> BusError:
    """The error to raise for what the line brought."""
    if isinstance(fact, rtu.ExceptionReply):
        return _BY_CODE.get(fact.code, DeviceFailed)(fact)
    if isinstance(fact, rtu.NoAnswer | rtu.LineBusy):
        return DeviceSilent(fact)
    if isinstance(fact, rtu.EchoMismatch):
        return EchoWrong(fact)
    return AnswerUnusable(fact)
