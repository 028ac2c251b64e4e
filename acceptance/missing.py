"""What the acceptance needs of this machine. What is missing is a failure with its name, never something left out."""

import os
import shutil
from pathlib import Path

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
}


class MissingError(Exception):
    """``nspawn: …``: what this machine cannot do, first."""


def check_machine() -> None:
    """Raises MissingError."""
    if os.geteuid() != 0:
        raise MissingError("root: a container and its disk need it")
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise MissingError(f"{program.removeprefix('systemd-')}: not installed; Debian's package {package} has it")
    if not Path("/dev/loop-control").exists():
        raise MissingError("loop: this kernel has no loop devices")
    if "ext4" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        raise MissingError("ext4: this kernel does not know it")
    if not Path("/sys/fs/cgroup").is_mount():
        raise MissingError("cgroup: /sys/fs/cgroup is not mounted")
