"""A power board's firmware: the window in its profile as ``firmware_bridge.flash`` wants it, and the order's files."""

import logging
import struct
import time
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from agent.pile.firmware import ImageFile
from agent.power.blocks import Block, Values
from agent.power.errors import BusError, DeviceBusy, DeviceDeclined, DeviceFailed, DeviceRefused, NotAppliedError
from agent.power.instrument import Instrument
from agent.power.line import PortDownError
from agent.power.profile import Profile, Register, Write
from agent.power.scheduler import AT_ONCE, Steps
from firmware_bridge.errors import InstallFailed, WrongHardware
from firmware_bridge.flash import BusyError, Image, Limits, RefusedError, State, Status, UnheardError

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = Limits(block_bytes=1)
_TOLD = ("model", "fw_version", "fw_state", "fw_received", "fw_block_limit", "fw_size", "fw_crc32")


class BoardWindow:
    """``firmware_bridge.flash.Window`` of one board.

    ``read``, ``write`` and ``send`` are its device's transactions, tried again by the rules of the line. ``on_open`` is
    called whenever the board is seen out of service. Raises ``WrongHardware`` before anything is erased, if the board
    gives itself another model than those in ``hardware``.
    """

    def __init__(
        self,
        profile: Profile,
        hardware: tuple[str, ...],
        largest_gap: int,
        read: Callable[[Sequence[Block]], Steps[Values]],
        write: Callable[[Write], Steps[None]],
        send: Callable[[Callable[[Instrument], None]], Steps[None]],
        on_open: Callable[[], None],
    ) -> None:
        self._profile = profile
        self._hardware = hardware
        self._blocks = profile.board_blocks(_TOLD, largest_gap)
        self._read, self._write, self._send, self._on_open = read, write, send, on_open
        self._offset, self._length, self._data = (
            _board_register(profile, name) for name in ("fw_offset", "fw_length", "fw_data")
        )
        self._block_words = self._offset.words + self._length.words + self._data.words
        self._address = profile.address(self._offset)
        self._is_begun = False  # the board has been seen out of service
        self._foreign_model = ""  # of a board that runs, and must not get this image

    @property
    def block_bytes(self) -> int:
        """The most that one frame can carry."""
        _, most = self._length.range or self._length.limits()
        return min(2 * self._data.words, most)

    def fitted(self, version: str) -> str:
        """``version`` as far as the board can tell it."""
        register = _board_register(self._profile, "fw_version")
        return version.encode()[: 2 * register.words].decode(errors="ignore")

    def status(self) -> Steps[Status]:
        values = yield from _asked(self._read(self._blocks))
        status = self._status(values)
        self._is_begun = self._is_begun or status.is_open
        model = str(values.get((0, "model")) or "")
        is_foreign = model not in ("", *self._hardware) and not self._is_begun  # then it is the image that speaks
        self._foreign_model = model if is_foreign else ""
        if status.is_open:
            self._on_open()
        return status

    def erase(self, size: int, crc32: int) -> Steps[None]:
        if self._foreign_model:
            raise WrongHardware(f"it calls itself {self._foreign_model}, the image is for {', '.join(self._hardware)}")
        yield from self._do("erase_firmware", size=size, crc32=crc32)
        self._is_begun = True
        self._on_open()

    def block(self, offset: int, data: memoryview) -> Steps[None]:
        words = (*self._offset.encode(offset), *self._length.encode(len(data)))
        head = struct.pack(f">{len(words)}H", *words)
        yield from _asked(self._send(lambda line: line.write_bytes(self._address, head, data, self._block_words)))

    def verify(self) -> Steps[None]:
        yield from self._do("verify_firmware")

    def activate(self) -> Steps[None]:
        yield from self._do("activate_firmware")

    def pause(self, seconds: float) -> Steps[None]:
        yield time.monotonic() + seconds

    def _do(self, action: str, **parameters: int) -> Steps[None]:
        for write in self._profile.writes(action, 0, **parameters):
            yield from _asked(self._write(write))

    def _status(self, values: Values) -> Status:
        def number(name: str) -> int:
            value = values.get((0, name))
            return value if isinstance(value, int) else 0

        state = values[0, "fw_state"]
        if state not in set(State):
            raise UnheardError(f"fw_state = {state!r}, expected one of {', '.join(State)}")
        return Status(
            state=State(str(state)),
            received=number("fw_received"),
            block_limit=number("fw_block_limit") or self.block_bytes,
            size=number("fw_size"),
            crc32=number("fw_crc32"),
            version=str(values[0, "fw_version"]),
        )


def limits_for(window: BoardWindow, packet_length: int) -> Limits:
    """Blocks of the platform's packet length (114), as far as a frame can carry them."""
    return replace(PATIENCE, block_bytes=min(packet_length, window.block_bytes))


def new_image(file: ImageFile, version: str) -> Image:
    """The image of an order, if it is still the one that was verified. Raises ``InstallFailed``."""
    return Image(_content(file), version)


def last_good_image(file: ImageFile | None) -> Image | None:
    """The image that worked, whatever version it gives itself. One that has gone, or is not what it was, must not
    stand in the way of a new one."""
    if file is None:
        return None
    try:
        return Image(_content(file), "")
    except InstallFailed as error:
        log.warning("the last good image can't be used: %s", error)
        return None


def _content(file: ImageFile) -> bytes:
    try:
        data = Path(file.path).read_bytes()
    except OSError as error:
        raise InstallFailed(f"{file.path}: {error.strerror}") from error
    if len(data) != file.size or zlib.crc32(data) != file.crc32:
        found = f"{len(data)} bytes with CRC-32 {zlib.crc32(data):08x}"
        raise InstallFailed(f"{file.path}: {found}, expected {file.size} with {file.crc32:08x}")
    return data


def _board_register(profile: Profile, name: str) -> Register:
    register = profile.register("board", name)
    assert register is not None  # the profile's check: a window is whole, or there is none
    return register


def _asked(steps: Steps[T]) -> Generator[float, None, T]:
    """One thing asked of the board, others being served on the line before; its errors in the procedure's terms."""
    yield AT_ONCE
    try:
        return (yield from steps)
    except DeviceBusy as error:
        raise BusyError(str(error)) from error
    except (DeviceRefused, DeviceFailed, DeviceDeclined, NotAppliedError) as error:
        raise RefusedError(str(error)) from error
    except (BusError, PortDownError) as error:
        raise UnheardError(str(error)) from error
