"""The serial port of a line, opened for the agent alone and opened again for ever after it vanished."""

import logging
import time

import serial

from agent.power.config import LineConfig
from agent.power.port import PortError, open_port

log = logging.getLogger(__name__)

REOPEN_FIRST_S = 0.5
REOPEN_MOST_S = 5.0


class PortDownError(Exception):
    """There is no open port now; ``retry_at`` (monotonic) says when opening it is tried again."""

    def __init__(self, reason: str, retry_at: float) -> None:
        super().__init__(reason)
        self.retry_at = retry_at


class SerialLine:
    """One port of the configuration. Used by its worker's thread alone; ``reason`` may be read from any."""

    def __init__(self, config: LineConfig) -> None:
        self.config = config
        self.reason = "not opened yet"  # empty while the port is open
        self._port: serial.Serial | None = None
        self._pause_s = REOPEN_FIRST_S
        self._retry_at = 0.0

    def port(self) -> serial.Serial:
        """The open port. Raises ``PortDownError`` while there is none."""
        if self._port is None:
            self._open()
        assert self._port is not None
        return self._port

    def lost(self, reason: str) -> PortDownError:
        """The port has died under a transaction; the error to raise for it."""
        self.close()
        return self._down(reason)

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _open(self) -> None:
        if time.monotonic() < self._retry_at:
            raise PortDownError(self.reason, self._retry_at)
        config = self.config
        try:
            self._port = open_port(config.port, config.baud, config.parity, config.stop_bits)
        except PortError as error:
            raise self._down(str(error)) from error
        log.info("%s: open at %d baud", config.port, config.baud)
        self.reason = ""
        self._pause_s = REOPEN_FIRST_S

    def _down(self, reason: str) -> PortDownError:
        if reason != self.reason:  # said once, however often it is tried
            log.error("%s", reason)
        self.reason = reason
        self._retry_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, REOPEN_MOST_S)
        return PortDownError(reason, self._retry_at)
