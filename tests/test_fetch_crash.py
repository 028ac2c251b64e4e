"""A download killed at any time, before and after each durable step and anywhere between, goes on and is exact.

Behind each kill the power goes, too: what was written but never synced comes back as other bytes.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sim.ftp_server import FtpServer
from tests.fetch_helpers import IMAGE, MIB, OTHER, Yard, asked

BLOCK = 1460
RANDOM_KILLS = 40
IN_THE_THIRD_MIB = 36  # of the steps of a download from the beginning

# For each line on standard input a child that fetches; it dies by SIGKILL at the durable step of that number (0: none),
# counted before and after each step, those within others too; or by SIGALRM, which Python does not see either, after
# so many seconds. Says how it ended, and how many bytes had come.
NURSERY = """
import mmap, os, signal, sys
from pathlib import Path
from firmware_bridge import download, durable
from firmware_bridge.fetch import fetch
from firmware_bridge.ftp import Source

port, into, block = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
had_come = mmap.mmap(-1, 8)
step = fatal = 0

def count():
    global step
    step += 1
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(function):
    def run(*arguments):
        count()
        function(*arguments)
        count()
    return run

def noted(add):
    def run(self, data):
        had_come[:] = (self.done + len(data)).to_bytes(8, "big")
        add(self, data)
    return run

for name in ("sync", "sync_folder", "rename", "write_file", "remove_file"):
    setattr(durable, name, counted(getattr(durable, name)))
download.Download.add = noted(download.Download.add)

for line in sys.stdin:
    had_come[:] = bytes(8)
    pid = os.fork()
    if pid == 0:
        fatal, seconds = int(line.split()[0]), float(line.split()[1])
        signal.setitimer(signal.ITIMER_REAL, seconds)
        fetch(Source("127.0.0.1", port, "firmware", "secret", "fw.bin"), into, block)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), int.from_bytes(had_come[:], "big"), flush=True)
"""


@dataclass
class End:
    code: int
    had_come: int

    @property
    def was_killed(self) -> bool:
        return -self.code in (signal.SIGKILL, signal.SIGALRM)


class Nursery:
    def __init__(self, yard: Yard, server: FtpServer) -> None:
        arguments = [str(server.port), str(yard.into), str(BLOCK)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, fatal_step: int = 0, seconds: float = 0.0) -> End:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(fatal_step, seconds, file=self._process.stdin, flush=True)
        code, had_come = self._process.stdout.readline().split()
        return End(int(code), int(had_come))

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


@pytest.fixture
def server(yard: Yard) -> Iterator[FtpServer]:
    with FtpServer(yard.shelf) as server:
        yield server


@pytest.fixture
def nursery(yard: Yard, server: FtpServer) -> Iterator[Nursery]:
    nursery = Nursery(yard, server)
    yield nursery
    nursery.close()


def cut_power(yard: Yard) -> None:
    """What lies behind the durable offset was never promised: it comes back as other bytes than were written."""
    part, row = yard.into.with_name("image.part"), yard.into.with_name("image.part.json")
    if part.exists():
        offset = json.loads(row.read_text())["offset"] if row.exists() else 0
        with part.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * (part.stat().st_size - offset))


def restarts_at(server: FtpServer) -> int:
    """Where the last transfer went on; a file that was whole already at its end."""
    words = asked(server, "REST", "RETR", "USER")
    if words[-1].startswith("USER"):
        return 3 * MIB
    return int(words[-2].split(" ")[1]) if words[-2].startswith("REST") else 0


def fresh(yard: Yard, nursery: Nursery) -> bytes:
    return IMAGE


def resumed(yard: Yard, nursery: Nursery) -> bytes:
    assert nursery.run(fatal_step=IN_THE_THIRD_MIB).was_killed
    return IMAGE


def replaced(yard: Yard, nursery: Nursery) -> bytes:
    yard.put(IMAGE)
    assert nursery.run(fatal_step=IN_THE_THIRD_MIB).was_killed
    yard.put(OTHER[: MIB // 2], mtime=1_700_000_001)
    return OTHER[: MIB // 2]


@pytest.mark.parametrize("begin", [fresh, resumed, replaced])
def test_killed_before_and_after_each_durable_step_it_goes_on(
    yard: Yard, server: FtpServer, nursery: Nursery, begin: Callable[[Yard, Nursery], bytes]
) -> None:
    for step in range(1, 1000):
        image = begin(yard, nursery)
        end = nursery.run(fatal_step=step)
        if not end.was_killed:
            break
        cut_power(yard)
        assert nursery.run().code == 0
        assert yard.into.read_bytes() == image, f"killed at step {step}"
        assert end.had_come - restarts_at(server) <= MIB + BLOCK, f"killed at step {step}"
        shutil.rmtree(yard.into.parent)
        yard.into.parent.mkdir()
    assert end.code == 0
    assert step > 15
    print(f"{begin.__name__}: {step - 1} kill points")


def test_killed_at_any_moment_again_and_again_it_goes_on(yard: Yard, server: FtpServer, nursery: Nursery) -> None:
    chance = random.Random(7)
    kills = 0
    while kills < RANDOM_KILLS:
        end = nursery.run(seconds=chance.uniform(0.001, 0.05))
        cut_power(yard)
        if not end.was_killed:
            shutil.rmtree(yard.into.parent)
            yard.into.parent.mkdir()
            continue
        kills += 1
        if chance.random() < 0.5:
            continue  # killed again before it is through
        assert nursery.run().code == 0
        assert yard.into.read_bytes() == IMAGE
        assert end.had_come - restarts_at(server) <= MIB + BLOCK
