"""The process that fetches a file and proves it, for one upgrade: ``python -m firmware_bridge.worker``.

A process of its own, because what it needs (FTP, TLS, TUF) takes memory that the agent should not hold for years, and
because it reads what strangers wrote. Its job is one line of JSON on standard input; each line it writes is one of::

    {"percent": 0..100, "verifying": false}
    {"fetched": {"kind", "version", "hardware", "size", "crc32", "path"}}
    {"error": the result number, "text": in words}

It may be killed at any time, and given the same job again. In the job's folder::

    job/download    the file as it came; job/metadata what the server has beside a raw image
    images/HASH     the image for a power board
"""

import errno
import fcntl
import json
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from firmware_bridge import durable
from firmware_bridge.bundle import MOST_METADATA, Release
from firmware_bridge.errors import FirmwareError, NoSpace
from firmware_bridge.fetch import Expect, fetch, small
from firmware_bridge.ftp import Source, parse_address
from firmware_bridge.patience import Limits
from firmware_bridge.trust import Device, Update, open_catalogue, open_update, this_abi

NICENESS = 10  # billing goes first
CHUNK_BYTES = 1 << 16
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
INTERNAL = 99
BESIDE = ".tuf.zip"  # the metadata of a raw image, beside it on the server


@dataclass(frozen=True, slots=True)
class Job:
    """What the agent wants. Its repr has no password."""

    source: Source
    version: str
    packet_bytes: int
    folder: Path
    trust: Path
    device: Device
    limits: Limits
    now: datetime  # at least: the agent knows the time by the platform's commands where the system's clock is not set

    @classmethod
    def read(cls, text: str) -> "Job":
        found: dict[str, Any] = json.loads(text)
        address = parse_address(found["address"])
        source = Source(
            address.host, address.port, found["account"], found["password"], found["path"], address.tls,
            found["ca_file"], found["encoding"],
        )  # fmt: skip
        limits = Limits(reserve_bytes=found["reserve_bytes"], deadline_s=found["deadline_s"])
        device = Device(tuple(found["hardware"]), this_abi())
        # Not fromtimestamp(): that ends in 2038 on a 32-bit board, and the platform may say any time.
        known = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=found["now_ms"])
        now = max(datetime.now(UTC), known)
        return cls(
            source, found["version"], found["packet_bytes"], Path(found["folder"]), Path(found["trust"]), device,
            limits, now,
        )  # fmt: skip

    @property
    def download(self) -> Path:
        return self.folder / "job" / "download"

    @property
    def metadata(self) -> Path:
        return self.folder / "job" / "metadata"

    @property
    def scratch(self) -> Path:
        return self.folder / "job" / "scratch"


class Teller:
    """Says how far it is, each percent once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._percent = -1

    def say(self, **words: object) -> None:
        print(json.dumps(words), file=self._out, flush=True)

    def progress(self, done: int, total: int | None) -> None:
        percent = done * 100 // total if total else 0
        if percent != self._percent:
            self._percent = percent
            self.say(percent=percent, verifying=False)


def main() -> int:
    """0 when the job has its result, good or bad."""
    with suppress(OSError):  # a sandbox may refuse it
        os.nice(NICENESS)
    teller = Teller(sys.stdout)
    job = Job.read(sys.stdin.readline())
    try:
        with _alone(job.folder):
            teller.say(fetched=work(job, teller))
    except FirmwareError as error:
        teller.say(error=error.result, text=str(error))
    except OSError as error:
        teller.say(error=NoSpace.result if error.errno in NO_ROOM else INTERNAL, text=f"{error.strerror}")
    return 0


def work(job: Job, teller: Teller) -> dict[str, object]:
    """Fetch, prove, and put the image where it belongs. Raises FirmwareError, OSError."""
    expect = _announced(job)
    fetch(job.source, job.download, job.packet_bytes, expect=expect, limits=job.limits, on_progress=teller.progress)
    teller.say(percent=0, verifying=True)
    metadata = job.metadata if job.metadata.exists() else None
    update = open_update(job.trust, job.scratch, job.download, job.device, job.now, metadata)
    release = update.release(job.version)
    path = job.download if release.kind == "agent" else _image(job, update, release)
    return {
        "kind": release.kind,
        "version": release.version,
        "hardware": release.hardware,
        "size": release.size,
        "crc32": _crc32(path),
        "path": str(path),
    }


def _announced(job: Job) -> Expect | None:
    """Size and hash of a raw image, from the metadata beside it; any other file proves itself once it is here."""
    beside = small(job.source, job.source.path + BESIDE, MOST_METADATA, limits=job.limits)
    if beside is None:
        durable.remove_file(job.metadata)
        return None
    durable.write_file(job.metadata, beside)
    release = open_catalogue(job.trust, job.scratch, job.now, job.metadata).ordered(job.version, job.device)
    return Expect(release.size, release.sha256) if release is not None else None


def _image(job: Job, update: Update, release: Release) -> Path:
    images = job.folder / "images"
    images.mkdir(exist_ok=True)
    durable.sync_folder(job.folder)
    path = images / release.sha256
    update.copy_to(path)
    return path


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: that of an agent that was killed may live on until its next line."""
    (folder / "job").mkdir(parents=True, exist_ok=True)
    with (folder / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
