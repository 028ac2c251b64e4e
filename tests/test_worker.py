"""``python -m firmware_bridge.worker`` alone: a job in by standard input, lines out, a real FTP server."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trust_helpers import FOREIGN, House

from firmware_bridge import trust
from sim.ftp_server import Cut, FtpServer

HOME = Path(__file__).parents[1]
PASSWORD = "pa55-of-R9"
IMAGE = random.Random(7).randbytes(400_000)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
DEADLINE_S = 20.0


class Works:
    """A maker, a server with the maker's files, a pile, and its worker."""

    def __init__(self, folder: Path) -> None:
        self.shelf, self.firmware, self.trust = folder / "shelf", folder / "firmware", folder / "trust"
        self.shelf.mkdir()
        self.now = datetime.now(UTC)
        self.house = House(now=self.now)
        trust.install_root(self.trust, self.house.root())
        self.house.image(self.shelf / "fw.bundle", IMAGE, now=self.now)
        self.ftp = FtpServer(self.shelf, password=PASSWORD)

    def job(self, **changes: Any) -> dict[str, Any]:
        job = {
            "address": f"127.0.0.1:{self.ftp.port}", "account": "firmware", "password": PASSWORD, "path": "/fw.bundle",
            "version": "7.1", "packet_bytes": 4096, "folder": str(self.firmware), "trust": str(self.trust),
            "hardware": ["KLC-120", "PB-1"], "encoding": "utf-8", "ca_file": "", "reserve_bytes": 0, "deadline_s": 1,
            "now_ms": 0,
        }  # fmt: skip
        return job | changes

    def begin(self, **changes: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "firmware_bridge.worker"]
        pipe = subprocess.PIPE
        worker = subprocess.Popen(command, cwd=HOME, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(self.job(**changes)) + "\n")
        worker.stdin.flush()
        return worker

    def run(self, **changes: Any) -> list[dict[str, Any]]:
        """What it says, to its end."""
        worker = self.begin(**changes)
        said, words = worker.communicate(timeout=DEADLINE_S)
        assert (worker.returncode, words) == (0, "")
        assert PASSWORD not in said
        return [json.loads(line) for line in said.splitlines()]

    def fail(self, **changes: Any) -> tuple[int, str]:
        """Number and text of the error it ends with."""
        last = self.run(**changes)[-1]
        return last["error"], last["text"]

    @property
    def fetched(self) -> dict[str, Any]:
        return {
            "kind": "power-board", "version": "7.1", "hardware": ["PB-1"], "size": len(IMAGE),
            "crc32": zlib.crc32(IMAGE), "path": str(self.firmware / "images" / SHA256),
        }  # fmt: skip

    def until_received(self, share: float) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not (part := self.firmware / "job" / "download.part").exists() or part.stat().st_size < share * len(
            IMAGE
        ):
            assert time.monotonic() < deadline, sorted(self.firmware.rglob("*"))
            time.sleep(0.01)


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    works = Works(tmp_path)
    with works.ftp:
        yield works


# ---- carriers ----


def test_a_bundle_is_fetched_proved_and_its_image_put_aside(works: Works) -> None:
    *progress, verifying, fetched = works.run()
    percents = [one["percent"] for one in progress]
    assert percents == sorted(set(percents))
    assert (percents[0], percents[-1]) == (0, 100)
    assert not any(one["verifying"] for one in progress)
    assert verifying == {"percent": 0, "verifying": True}
    assert fetched == {"fetched": works.fetched}
    assert (works.firmware / "images" / SHA256).read_bytes() == IMAGE
    assert not (works.firmware / "job" / "metadata").exists()


def test_a_raw_image_has_its_metadata_beside_it(works: Works) -> None:
    (works.shelf / "fw.bin").write_bytes(IMAGE)
    works.house.metadata(works.shelf / "fw.bin.tuf.zip")
    assert works.run(path="/fw.bin")[-1] == {"fetched": works.fetched}
    assert (works.firmware / "job" / "metadata").read_bytes() == (works.shelf / "fw.bin.tuf.zip").read_bytes()


def test_a_raw_image_may_be_of_those_that_are_trusted_already(works: Works, tmp_path: Path) -> None:
    (works.shelf / "fw.bin").write_bytes(IMAGE)
    number, text = works.fail(path="/fw.bin")
    assert (number, "nor an image of those that are trusted" in text) == (55, True), text
    device = trust.Device(("PB-1",), trust.this_abi())
    trust.open_update(works.trust, tmp_path / "scratch", works.shelf / "fw.bundle", device, works.now)
    trust.promote(works.trust, tmp_path / "scratch")
    assert works.run(path="/fw.bin")[-1] == {"fetched": works.fetched}


def test_a_release_of_the_agent_stays_in_its_bundle_for_the_installer(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trust_helpers.ABI", trust.this_abi())
    works.house.agent(works.shelf / "agent.bundle", now=works.now)
    found = works.run(path="/agent.bundle", version="1.2.3")[-1]["fetched"]
    assert (found["kind"], found["path"]) == ("agent", str(works.firmware / "job" / "download"))
    assert (works.firmware / "job" / "download").read_bytes() == (works.shelf / "agent.bundle").read_bytes()


# ---- errors ----


@pytest.mark.parametrize(
    ("changes", "number", "words"),
    [
        ({"address": "127.0.0.1:1"}, 51, "127.0.0.1:1"),
        ({"password": "wrong"}, 52, "530"),
        ({"path": "/no.bundle"}, 53, "'/no.bundle'"),
        ({"version": "7.2"}, 57, "ordered is version '7.2', signed is '7.1'"),
        ({"hardware": ["PB-9"]}, 56, "it is for PB-1; this is PB-9"),
        ({"reserve_bytes": 1 << 60}, 58, "MiB free, needed: "),
    ],
)
def test_what_can_not_be_had(works: Works, changes: dict[str, Any], number: int, words: str) -> None:
    found, text = works.fail(**changes)
    assert (found, words in text) == (number, True), text
    assert not (works.firmware / "images").exists()


def test_a_transfer_that_breaks_until_the_deadline(works: Works) -> None:
    works.ftp.faults.cut, works.ftp.faults.after = Cut.ABORT, 1000
    number, text = works.fail()
    assert number == 54
    assert "the deadline of 1 s is reached" in text


def test_a_bundle_by_somebody_else(works: Works) -> None:
    House(FOREIGN, works.now).image(works.shelf / "fw.bundle", IMAGE, now=works.now)
    assert works.fail()[0] == 55


def test_metadata_that_have_expired_by_the_time_that_the_agent_knows(works: Works) -> None:
    """The system's clock may stand in 1970, where nothing has; the platform's commands tell better."""
    far = works.now + timedelta(days=20 * 365)
    number, text = works.fail(now_ms=int(far.timestamp() * 1000))
    assert (number, f"it is {far:%Y-%m-%d}" in text) == (55, True), text


def test_a_path_that_the_server_s_encoding_can_not_write(works: Works) -> None:
    number, text = works.fail(path="/фирма-€.bundle", encoding="gbk")
    assert (number, text.endswith("can't be written in gbk")) == (53, True), text


# ---- kills ----


def test_a_worker_that_was_killed_is_gone_on_with(works: Works) -> None:
    works.ftp.faults.bytes_per_s = len(IMAGE) // 3
    first = works.begin(deadline_s=60)
    works.until_received(0.3)
    first.kill()
    first.communicate()
    works.ftp.faults.bytes_per_s = 0
    assert works.run()[-1] == {"fetched": works.fetched}


def test_the_worker_of_an_agent_that_was_killed_makes_way_for_the_next(works: Works) -> None:
    works.ftp.faults.bytes_per_s = len(IMAGE) // 3
    orphan = works.begin(deadline_s=60)
    works.until_received(0.3)
    assert orphan.stdout is not None
    assert orphan.stderr is not None
    orphan.stdout.close()  # as by the end of its agent
    try:
        assert works.run(deadline_s=60)[-1] == {"fetched": works.fetched}
        assert orphan.wait(DEADLINE_S) != 0, "it noticed by its next line"
    finally:
        orphan.kill()
        words = orphan.stderr.read()
    assert PASSWORD not in words


def test_the_password_is_on_no_command_line(works: Works) -> None:
    works.ftp.faults.bytes_per_s = len(IMAGE) // 3
    worker = works.begin(deadline_s=60)
    works.until_received(0.3)
    assert PASSWORD.encode() not in Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    assert PASSWORD.encode() not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    worker.kill()
    worker.communicate()
    shutil.rmtree(works.firmware / "job")
