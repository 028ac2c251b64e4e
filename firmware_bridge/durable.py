"""Steps that a power cut can't undo or halve. Everything in this room that must survive one goes through here.

"Unpack, then rename" alone leaves broken files behind after a power cut: the order is always data, its folder's entry,
rename, the parent's entry.
"""

import os
from pathlib import Path


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` as a whole: afterwards, and after a power cut at any time, it is the old file or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.fchmod(fd, mode)
        sync(fd)
    finally:
        os.close(fd)
    rename(fresh, path)


def rename(old: Path, new: Path) -> None:
    """Rename a file or a folder whose content is durable already."""
    os.replace(old, new)
    sync_folder(new.parent)
    if old.parent != new.parent:
        sync_folder(old.parent)


def remove_file(path: Path) -> None:
    """Remove ``path`` for good; one that is not there is fine."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def sync(fd: int) -> None:
    """Everything written to ``fd`` is on the disk when this returns."""
    os.fsync(fd)
