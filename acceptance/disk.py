"""A disk that is a file, with Debian on it; its power can be cut."""

import fcntl
import os
import shutil
import struct
from pathlib import Path

from acceptance.missing import MissingError, run

PACKAGES = "systemd,systemd-sysv,udev,dbus,python3,procps,iproute2"
SUITE = "bookworm"
BYTES = 1 << 30
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2  # what a power cut does: not even the file system's own journal is written


def cache_folder() -> Path:
    """Where what takes long to make is kept from run to run, outside the tree."""
    return Path(os.environ.get("PILE_AGENT_CACHE") or Path.home() / ".cache" / "pile-agent")


def debian(cache: Path) -> Path:
    """A disk with a fresh Debian 12, made once."""
    image = cache / f"debian-12-{'-'.join(sorted(PACKAGES.split(',')))}.ext4"
    if image.exists():
        return image
    cache.mkdir(parents=True, exist_ok=True)
    archive, fresh = cache / "debian-12.tar", image.with_suffix(".new")
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(archive))
    with open(fresh, "wb") as file:
        file.truncate(BYTES)
    run("mkfs.ext4", "-q", "-F", str(fresh))
    disk = Disk(fresh, cache / "mounted")
    disk.mount()
    try:
        run("tar", "-xf", str(archive), "-C", str(disk.folder))
    finally:
        disk.unmount()
    archive.unlink()
    fresh.rename(image)
    return image


class Disk:
    """``image`` mounted at ``folder``."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image = image
        self.folder = folder

    @classmethod
    def copied(cls, image: Path, folder: Path) -> "Disk":
        copy = folder / "board.ext4"
        run("cp", "--sparse=always", "--reflink=auto", str(image), str(copy))
        return cls(copy, folder / "board")

    def mount(self) -> None:
        self.folder.mkdir(exist_ok=True)
        run("mount", "-o", "loop", str(self.image), str(self.folder), word="loop")

    def unmount(self) -> None:
        run("umount", str(self.folder))

    def cut_power(self) -> None:
        """From now on nothing more reaches the disk; what was not synced is gone after the next mount."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        except OSError as error:
            raise MissingError(f"ext4 shutdown: the ioctl was refused, {error}") from error
        finally:
            os.close(fd)

    def put(self, source: Path, target: str) -> None:
        shutil.copy(source, self.folder / target.lstrip("/"))
