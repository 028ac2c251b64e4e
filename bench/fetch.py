"""An 8 MiB image from an FTP server on this machine, beside plain ftplib and curl: time, CPU and memory of the process.

Ours also hashes, writes a durable row per MiB and checks speed and length; the peers only write the file. Each runs in
a process of its own, whose start counts for curl only. The server (pyftpdlib) is another process.
"""

import ftplib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from math import nan
from pathlib import Path
from statistics import median
from typing import NamedTuple

from firmware_bridge.fetch import fetch
from firmware_bridge.ftp import Source

MIB = 1 << 20
IMAGE_BYTES = 8 * MIB
ROUNDS = 5
BLOCKS = (256, 1024, 65536)
NAME = "fw.bin"


class Cost(NamedTuple):
    wall_ms: float
    cpu_ms: float
    rss_mib: float


def ours(port: int, block: int, folder: Path) -> None:
    fetch(Source("127.0.0.1", port, "", "", NAME), folder / "ours", block)


def plain(port: int, block: int, folder: Path) -> None:
    with ftplib.FTP() as client, (folder / "plain").open("wb") as file:
        client.connect("127.0.0.1", port)
        client.login()
        client.retrbinary(f"RETR {NAME}", file.write, block)


CLIENTS: dict[str, Callable[[int, int, Path], None]] = {"ours": ours, "ftplib": plain}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / NAME).write_bytes(os.urandom(IMAGE_BYTES))
        with _server(folder) as server:
            port = int(server.stdout.readline()) if server.stdout else 0
            print(f"{'8 MiB':<24} {'ms':>7} {'CPU ms':>7} {'RSS MiB':>8}")
            for block in BLOCKS:
                for client in CLIENTS:
                    _row(f"{client}, blocks of {block}", [_python(client, port, block, folder) for _ in range(ROUNDS)])
            if shutil.which("curl"):
                _row("curl", [_curl(port, folder) for _ in range(ROUNDS)])
            server.terminate()


def _row(name: str, costs: list[Cost]) -> None:
    wall_ms, cpu_ms, rss_mib = (median(column) for column in zip(*costs, strict=True))
    print(f"{name:<24} {wall_ms:>7.1f} {cpu_ms:>7.1f} {rss_mib:>8.1f}")


def _server(folder: Path) -> subprocess.Popen[str]:
    script = (
        "import sys; from pathlib import Path; from sim.ftp_server import FtpServer\n"
        "server = FtpServer(Path(sys.argv[1]), 'anonymous', 'anonymous@').start()\n"
        "print(server.port, flush=True); sys.stdin.read()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _python(client: str, port: int, block: int, folder: Path) -> Cost:
    (folder / "ours").unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.fetch", client, str(port), str(block), str(folder)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Cost(*json.loads(answer))


def _curl(port: int, folder: Path) -> Cost:
    began = time.monotonic()
    command = ["curl", "--silent", "--output", str(folder / "curl"), f"ftp://127.0.0.1:{port}/{NAME}"]
    with subprocess.Popen(command) as process:
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    wall_ms = (time.monotonic() - began) * 1000
    return Cost(wall_ms, (used.ru_utime + used.ru_stime) * 1000, nan)  # its ru_maxrss would be ours from before exec


def _measured(client: str, port: int, block: int, folder: Path) -> Cost:
    began, cpu_began = time.monotonic(), time.process_time()
    CLIENTS[client](port, block, folder)
    wall_ms, cpu_ms = (time.monotonic() - began) * 1000, (time.process_time() - cpu_began) * 1000
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Cost(wall_ms, cpu_ms, int(status["VmHWM"].split()[0]) / 1024)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
    else:
        main()
