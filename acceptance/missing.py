"""What the acceptance needs of this machine. What is missing is a failure with its name, never something left out."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

CONTAINER = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
}
MACHINE = {
    "qemu-system-aarch64": "qemu-system-arm",
    "sfdisk": "fdisk",
    "mcopy": "mtools",
    "debugfs": "e2fsprogs",
    "ssh": "openssh-client",
}
UEFI = Path("/usr/share/AAVMF/AAVMF_CODE.fd")


class MissingError(Exception):
    """``nspawn: …``: what this machine cannot do, first."""


def check_container() -> None:
    """Whether this machine can run the package on a board that is a container. Raises MissingError."""
    if os.geteuid() != 0:
        raise MissingError("root: a container and its disk need it")
    _check_programs(CONTAINER)
    if not Path("/dev/loop-control").exists():
        raise MissingError("loop: this kernel has no loop devices")
    if "ext4" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        raise MissingError("ext4: this kernel does not know it")
    if not Path("/sys/fs/cgroup").is_mount():
        raise MissingError("cgroup: /sys/fs/cgroup is not mounted")


def check_emulation() -> None:
    """Whether it can boot the image. Raises MissingError."""
    _check_programs(MACHINE)
    if not UEFI.exists():
        raise MissingError(f"UEFI: no {UEFI}; Debian's package qemu-efi-aarch64 has it")


def _check_programs(programs: Mapping[str, str]) -> None:
    for program, package in programs.items():
        if shutil.which(program) is None:
            raise MissingError(f"{program.removeprefix('systemd-')}: not installed; Debian's package {package} has it")


def run(*command: str, given: bytes = b"", word: str = "") -> str:
    """What a tool of this machine prints. Raises MissingError, beginning with ``word`` or the tool's name."""
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace")[-500:]
        raise MissingError(f"{word or command[0]}: {' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")
