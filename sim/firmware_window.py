"""The bootloader behind the board's firmware window: erase, blocks, CRC, activate. Pure: time is an argument."""

import zlib

MAX_IMAGE = 1 << 20
BLOCK_LIMIT = 128
ERASE_MS = 300
VERIFY_MS = 200
MAGIC = b"PB-200 "  # an image begins with this and its version, ended by NUL


class FirmwareWindow:
    """``state`` is a word of the register map's fw_state; methods return whether the board takes the request."""

    def __init__(self) -> None:
        self.state = "idle"
        self.erased = False  # the old image is gone: no way back, only a new image
        self._image = bytearray()
        self._size = 0
        self._crc32 = 0
        self._busy_ms = 0

    @property
    def received(self) -> int:
        return len(self._image)

    @property
    def open(self) -> bool:
        """Whether the board has left normal service for an update."""
        return self.state != "idle" or self.erased

    def erase(self, size: int, crc32: int) -> bool:
        if not 0 < size <= MAX_IMAGE or self.state in ("erasing", "verifying"):
            return False
        self._size, self._crc32 = size, crc32
        self._image.clear()
        self.erased = True
        self.state, self._busy_ms = "erasing", ERASE_MS
        return True

    def block(self, offset: int, data: bytes) -> bool:
        """Store a block at the end of what is there; one that is there already is taken again and changes nothing."""
        end = offset + len(data)
        if self.state != "receiving" or offset > self.received or end > self._size:
            return False
        if end > self.received:
            self._image[offset:] = data
        return True

    def verify(self) -> bool:
        if self.state != "receiving" or self.received != self._size:
            return False
        self.state, self._busy_ms = "verifying", VERIFY_MS
        return True

    def activate(self) -> str | None:
        """The version of the new image, which runs from now on; ``None`` when there is no verified one."""
        if self.state != "verified":
            return None
        self.state, self.erased = "idle", False
        if not self._image.startswith(MAGIC):
            return "unknown"
        return self._image[len(MAGIC) :].split(b"\0", 1)[0][:16].decode("ascii", "replace")

    def abort(self) -> bool:
        return not self.erased

    def restart(self) -> None:
        """The board restarted: what was stored stays, and an interrupted step begins again."""
        if self.erased:
            self.state = "receiving"

    def step(self, ms: int) -> None:
        if self.state not in ("erasing", "verifying"):
            return
        self._busy_ms -= ms
        if self._busy_ms <= 0:
            self.state = "receiving" if self.state == "erasing" else self._verdict()

    def _verdict(self) -> str:
        return "verified" if zlib.crc32(self._image) == self._crc32 else "failed"
