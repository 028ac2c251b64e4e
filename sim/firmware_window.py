"""The bootloader behind the board's firmware window: erase, blocks, CRC, activate. Pure: time is an argument."""

import zlib
from dataclasses import dataclass, field

MAX_IMAGE = 1 << 20
BLOCK_LIMIT = 128
ERASE_MS = 300
VERIFY_MS = 200
MAGIC = b"PB-200 "  # an image begins with this and its version, ended by NUL


@dataclass(slots=True)
class FirmwareFaults:
    """What goes wrong with an update, on request."""

    flips: int = 0  # so many of the next blocks are stored with one bit wrong
    boots_as: str = ""  # the version that the image turns out to be, whatever it says of itself
    refuses: set[str] = field(default_factory=set)  # of erase, block, verify, activate


class FirmwareWindow:
    """``state`` is a word of the register map's fw_state; methods return whether the board takes the request."""

    def __init__(self) -> None:
        self.state = "idle"
        self.erased = False  # the old image is gone: no way back, only a new image
        self.faults = FirmwareFaults()
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
        if not 0 < size <= MAX_IMAGE or self.state in ("erasing", "verifying") or "erase" in self.faults.refuses:
            return False
        self._size, self._crc32 = size, crc32
        self._image.clear()
        self.erased = True
        self.state, self._busy_ms = "erasing", ERASE_MS
        return True

    def block(self, offset: int, data: bytes) -> bool:
        """Store a block at the end of what is there; one that is there already is taken again and changes nothing."""
        end = offset + len(data)
        if self.state != "receiving" or offset > self.received or end > self._size or "block" in self.faults.refuses:
            return False
        if end > self.received:
            self._image[offset:] = data
            if self.faults.flips:
                self.faults.flips -= 1
                self._image[offset] ^= 0x10
        return True

    def verify(self) -> bool:
        if self.state != "receiving" or self.received != self._size or "verify" in self.faults.refuses:
            return False
        self.state, self._busy_ms = "verifying", VERIFY_MS
        return True

    def activate(self) -> str | None:
        """The version of the new image, which runs from now on; ``None`` when there is no verified one."""
        if self.state != "verified" or "activate" in self.faults.refuses:
            return None
        self.state, self.erased = "idle", False
        if self.faults.boots_as:
            version, self.faults.boots_as = self.faults.boots_as, ""
            return version
        if not self._image.startswith(MAGIC):
            return "unknown"
        return self._image[len(MAGIC) :].split(b"\0", 1)[0][:16].decode("ascii", "replace")

    def abort(self) -> bool:
        return not self.erased

    def restart(self) -> None:
        """The board restarted: what was stored stays; an erase begins again, the rest must be asked for again."""
        if self.state == "erasing":
            self._busy_ms = ERASE_MS
        elif self.erased:
            self.state = "receiving"

    def step(self, ms: int) -> None:
        if self.state not in ("erasing", "verifying"):
            return
        self._busy_ms -= ms
        if self._busy_ms <= 0:
            self.state = "receiving" if self.state == "erasing" else self._verdict()

    def _verdict(self) -> str:
        return "verified" if zlib.crc32(self._image) == self._crc32 else "failed"
