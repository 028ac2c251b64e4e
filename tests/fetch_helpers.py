"""What the tests of the download share: images, a time that passes only in waits, servers that are not pyftpdlib."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware_bridge.fetch import Fetched, fetch
from firmware_bridge.ftp import Source
from firmware_bridge.patience import Limits
from sim.broker import free_port
from sim.ftp_server import FtpServer

MIB = 1 << 20
IMAGE = random.Random(4).randbytes(3 * MIB)
OTHER = random.Random(5).randbytes(3 * MIB)
QUICK = Limits(stall_s=0.5, reserve_bytes=0)
DEADLINE_S = 10.0


@dataclass
class Waits:
    """A clock that stands still but for the waits between tries. ``then`` happens during each, with its number."""

    now: float = 1000.0
    seconds: list[float] = field(default_factory=list)
    then: Callable[[int], None] = lambda number: None

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.seconds.append(seconds)
        self.then(len(self.seconds))


@dataclass
class Yard:
    """A server's folder, a pile's folder, and what came of a download from one to the other."""

    folder: Path
    waits: Waits = field(default_factory=Waits)
    progress: list[tuple[int, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shelf.mkdir()
        self.into.parent.mkdir()
        self.put(IMAGE)

    @property
    def shelf(self) -> Path:
        return self.folder / "shelf"

    @property
    def into(self) -> Path:
        return self.folder / "job" / "image"

    @property
    def left(self) -> set[str]:
        """What lies in the pile's folder."""
        return set(os.listdir(self.into.parent))

    def put(self, data: bytes, name: str = "fw.bin", mtime: int = 1_700_000_000) -> None:
        path = self.shelf / name
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".fresh")
        fresh.write_bytes(data)
        os.utime(fresh, (mtime, mtime))
        fresh.rename(path)

    def fetch(self, source: Source, block: int = 1024, **wishes: Any) -> Fetched:
        settings = {"limits": QUICK, "clock": self.waits.clock, "sleep": self.waits.sleep, "rng": random.Random(1)}
        settings["on_progress"] = lambda done, total: self.progress.append((done, total))
        return fetch(source, self.into, block, **{**settings, **wishes})


def source_at(server: FtpServer, path: str = "fw.bin", **wishes: Any) -> Source:
    return Source(**{
        "host": server.host, "port": server.port, "user": "firmware", "password": "secret", "path": path, **wishes
    })  # fmt: skip


def asked(server: FtpServer, *commands: str) -> list[str]:
    """The lines with these commands that the server was sent."""
    return [line for line in server.asked if line.split(" ")[0] in commands]


@contextlib.contextmanager
def scripted_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which ``talk`` is all that each client meets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        talk(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def vsftpd(folder: Path, shelf: Path, *options: str) -> Iterator[int]:
    """vsftpd on ``shelf``; its user is ``ftp``, with the password "secret". The port."""
    port = free_port()
    (folder / "passwords").write_text("secret\n")
    empty = folder / "empty"
    empty.mkdir()
    config = folder / "vsftpd.conf"
    config.write_text("\n".join([
        "listen=YES", "listen_address=127.0.0.1", f"listen_port={port}", "background=NO", "run_as_launching_user=YES",
        "anonymous_enable=YES", "local_enable=NO", "secure_email_list_enable=YES", "allow_writeable_chroot=YES",
        f"email_password_file={folder / 'passwords'}", f"anon_root={shelf}", f"secure_chroot_dir={empty}",
        "seccomp_sandbox=NO", "isolate=NO", "isolate_network=NO", "delay_failed_login=0", *options, "",
    ]))  # fmt: skip
    program = shutil.which("vsftpd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, "vsftpd is not installed: scripts/prerequisites test"
    with subprocess.Popen([program, str(config)]) as server:
        try:
            _wait_for_port(port)
            yield port
        finally:
            server.kill()


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until, f"nothing listens on port {port}"
            time.sleep(0.02)
