"""A Linux board that is a whole machine: the image on a card, booted by UEFI in an emulated arm64 computer.

Its PL011 is the site's serial line, its console a file. Its network reaches this machine's loopback at 10.0.2.2.
Commands go in by ssh, with a key that was put on the card as a technician would.
"""

import json
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acceptance.board import Board, BoardError
from acceptance.missing import UEFI, MissingError, run
from sim.broker import free_port

CARD_BYTES = 3 << 30  # larger than the image, as cards are
BOOT_S, COMMAND_S, HALT_S = 120.0, 120.0, 60.0
ADAPTOR = "adaptor"


class Card:
    """``image`` flashed: a copy on a larger card, whose boot partition this machine can read and write."""

    def __init__(self, image: Path, path: Path) -> None:
        self.path = path
        run("cp", "--sparse=always", "--reflink=auto", str(image), str(path))
        with open(path, "r+b") as card:
            card.truncate(CARD_BYTES)
        self._partitions = {
            part["name"]: 512 * part["start"]
            for part in json.loads(run("sfdisk", "--json", str(image)))["partitiontable"]["partitions"]
        }

    @property
    def _boot(self) -> str:
        return f"{self.path}@@{self._partitions['pile-boot']}"

    def read(self, name: str) -> str:
        """A file of the boot partition. Raises MissingError when it has none of that name."""
        return run("mtype", "-i", self._boot, f"::{name}").replace("\r\n", "\n")

    def names(self, folder: str) -> list[str]:
        return run("mdir", "-b", "-i", self._boot, f"::{folder}").split()

    def write(self, name: str, data: bytes) -> None:
        run("mcopy", "-o", "-i", self._boot, "-", f"::{name}", given=data)

    def copy_from_root(self, name: str, folder: Path) -> None:
        """A folder of the root partition, as it was made, into ``folder``."""
        device = f"{self.path}?offset={self._partitions['pile-root']}"
        run("debugfs", "-R", f"rdump {name} {folder}", device)


class Machine(Board):
    """``port``: what the PL011 is wired to. ``adaptor``: what is at the other end of a USB serial adaptor."""

    site_address = "10.0.2.2"
    slowness = 6.0  # a program takes so much longer on an emulated processor

    def __init__(self, card: Card, folder: Path, port: Callable[[], str], adaptor: Callable[[], str]) -> None:
        self.card = card
        self.console = folder / "console.log"
        self._port, self._adaptor = port, adaptor
        self._folder = folder
        self._key = folder / "key"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._ssh_port = 0
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key))
        card.write("config/authorized_keys", self._key.with_suffix(".pub").read_bytes())
        # The one UART is the power board's: the kernel must talk elsewhere.
        entry = card.read("loader/entries/pile.conf")
        card.write("loader/entries/pile.conf", entry.replace(" quiet ", " console=tty0 console=hvc0 ").encode())

    # ---- power ----

    def boot(self) -> None:
        self._ssh_port = free_port()
        for left in ("qmp", "ssh"):
            (self._folder / left).unlink(missing_ok=True)
        with open(self._folder / "qemu.log", "ab") as log:
            self._qemu = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until(self._is_up, BOOT_S, "the machine does not come up")

    def _command(self) -> list[str]:
        forward = f"hostfwd=tcp:127.0.0.1:{self._ssh_port}-:22"
        return [
            # acpi=off: a device tree, as such boards have.
            "qemu-system-aarch64", "-machine", "virt,acpi=off", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024",
            "-nodefaults", "-display", "none",
            "-drive", f"if=pflash,format=raw,readonly=on,file={UEFI}",
            "-drive", f"if=none,id=card,format=raw,cache=none,file={self.card.path}",
            "-device", "virtio-blk-pci,drive=card",
            "-netdev", f"user,id=net,{forward}", "-device", "virtio-net-pci,netdev=net,romfile=",
            # Firmware and kernel seed their random numbers from it; without one the first start waits for ever.
            "-device", "virtio-rng-pci",
            "-chardev", f"serial,id=line,path={self._port()}", "-serial", "chardev:line",
            "-chardev", f"file,id=console,path={self.console},append=on",
            "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console",
            "-chardev", f"serial,id=usb,path={self._adaptor()}",
            "-device", "qemu-xhci,id=xhci", "-device", f"usb-serial,chardev=usb,id={ADAPTOR}",
            "-qmp", f"unix:{self._folder / 'qmp'},server=on,wait=off",
        ]  # fmt: skip

    def until_rebooted(self) -> None:
        boot_id = "/proc/sys/kernel/random/boot_id"
        was = self.run("cat", boot_id)
        self.until(lambda: self._is_up() and self.run("cat", boot_id) != was, BOOT_S, "it does not reboot")

    def cut_power(self) -> None:
        """What the board has not handed to its card is gone. What it has is there: the card's own cache is not cut."""
        self.kill()

    def kill(self) -> None:
        if self._qemu is None:
            return
        self._qemu.kill()
        self._qemu.wait(HALT_S)
        self._qemu = None

    def _is_up(self) -> bool:
        assert self._qemu is not None
        if self._qemu.poll() is not None:
            raise MissingError(f"qemu: ended with {self._qemu.returncode}: {self._said('qemu.log')}")
        return self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def _said(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8", errors="replace")[-1000:]

    # ---- commands ----

    def try_run(self, *command: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        options = [
            "-i", str(self._key), "-p", str(self._ssh_port), "-o", "BatchMode=yes", "-o", "ConnectTimeout=30",
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self._folder / 'known_hosts'}",
            # One connection for all: a login takes seconds on an emulated processor.
            "-o", "ControlMaster=auto", "-o", f"ControlPath={self._folder / 'ssh'}", "-o", "ControlPersist=60",
            "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR",
        ]  # fmt: skip
        try:
            return subprocess.run(
                ["ssh", *options, "root@127.0.0.1", shlex.join(command)],
                input=given, capture_output=True, text=True, timeout=COMMAND_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise BoardError(f"{shlex.join(command)}: no end within {COMMAND_S:g} s") from error

    def put(self, source: Path, target: str) -> None:
        self.run("tee", target, given=source.read_text(encoding="utf-8"))

    # ---- the serial lines ----

    def plug_line(self, port: str) -> None:
        """Nothing: the PL011 is soldered on."""

    def plug_adaptor(self) -> None:
        with self._qmp() as ask:
            ask("device_add", driver="usb-serial", chardev="usb", id=ADAPTOR)

    def unplug_adaptor(self) -> None:
        with self._qmp() as ask:
            ask("device_del", id=ADAPTOR)

    @contextmanager
    def _qmp(self) -> Iterator[Callable[..., None]]:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(COMMAND_S)
            monitor.connect(str(self._folder / "qmp"))
            lines = monitor.makefile("r", encoding="utf-8")
            lines.readline()  # its greeting

            def ask(command: str, **arguments: Any) -> None:
                monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                while "event" in (answer := json.loads(lines.readline())):
                    pass
                if "error" in answer:
                    raise BoardError(f"qemu: {command}: {answer['error']['desc']}")

            ask("qmp_capabilities")
            yield ask
