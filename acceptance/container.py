"""A Linux board: Debian's own systemd in a container, on a disk of its own, with this machine's loopback."""

import os
import signal
import subprocess
from pathlib import Path

from acceptance.board import LINE, Board, BoardError
from acceptance.disk import Disk
from acceptance.missing import MissingError

BOOT_S, HALT_S, COMMAND_S = 60.0, 60.0, 120.0
WANTS_REBOOT = 133  # how nspawn ends then
_PTS = "/dev/pts-of-the-site"  # this machine's pseudo-terminals, as the container sees them
# nspawn keeps its own files below /run, which must not be this machine's.
_START = 'mount -t tmpfs tmpfs /run && exec systemd-nspawn "$@"'


class Container(Board):
    """``disk`` is mounted while the board has power."""

    site_address = "127.0.0.1"

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._log = disk.image.with_suffix(".log")

    # ---- power ----

    def boot(self) -> None:
        """Switch it on; returns when systemd is through."""
        self.disk.mount()
        options = ["--boot", "--quiet", "--register=no", "--keep-unit", "--console=pipe", f"--bind=/dev/pts:{_PTS}"]
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", _START, "sh", *options]
        with open(self._log, "ab") as log:
            self._nspawn = subprocess.Popen(
                [*command, "-D", str(self.disk.folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.until(lambda: self._pid_1() and self._is_up(), BOOT_S, "nspawn: systemd does not come up")

    def until_rebooted(self) -> None:
        """It restarts itself, from the same disk."""
        assert self._nspawn is not None
        self._wait_for_the_end(WANTS_REBOOT)
        self.boot()

    def cut_power(self) -> None:
        self.disk.cut_power()
        self.kill()

    def kill(self) -> None:
        """Stop everything in it at once."""
        if self._nspawn is None:
            return
        if self._nspawn.poll() is None:
            os.kill(self._pid_1() or self._nspawn.pid, signal.SIGKILL)
        self._wait_for_the_end()

    def _wait_for_the_end(self, expected: int | None = None) -> None:
        assert self._nspawn is not None
        code = self._nspawn.wait(HALT_S)
        self._nspawn = None
        self.disk.unmount()
        if expected is not None and code != expected:
            raise BoardError(f"the board has ended with {code}, expected {expected}: {self._log.read_text()[-500:]}")

    def _pid_1(self) -> int:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise MissingError(f"nspawn: ended with {self._nspawn.returncode}: {self._log.read_text()[-500:]}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        return next((int(pid) for pid in children if _comm(int(pid)) == "systemd"), 0)

    def _is_up(self) -> bool:
        return self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    # ---- commands ----

    def put(self, source: Path, target: str) -> None:
        self.disk.put(source, target)

    def try_run(self, *command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        entered = ["nsenter", "-t", str(self._pid_1()), "-a", "-r", "-w", "env", "-i", "LANG=C.UTF-8", "HOME=/root"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            [*entered, path, *command], input=given, capture_output=True, text=True, timeout=COMMAND_S
        )

    # ---- the serial line, as udev would do it: the container has no devices of its own ----

    def plug_line(self, port: str) -> None:
        """``port``: the pseudo-terminal's name on this machine."""
        device = f"{_PTS}/{Path(port).name}"
        self.run("chown", "root:pile-agent", device)
        self.run("chmod", "660", device)
        self.run("ln", "-sfn", device, LINE)

    def unplug_line(self) -> None:
        self.run("rm", "-f", LINE)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
