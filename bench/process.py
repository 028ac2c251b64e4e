"""What the kernel says of a running process: memory, CPU, wake-ups. And the agent as an installed one starts: from
byte code that is there already."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

MEMORY = ("VmRSS", "RssAnon", "RssFile", "Pss")


@dataclass(frozen=True)
class Thread:
    """What a thread has done so far. A wake-up is a switch away from it of its own will: it had nothing to do, and
    was woken afterwards."""

    name: str
    wakeups: int
    preempted: int
    cpu_ns: int


def memory_mib(pid: int) -> dict[str, float]:
    """Resident and proportional sizes in MiB."""
    text = Path(f"/proc/{pid}/status").read_text() + Path(f"/proc/{pid}/smaps_rollup").read_text()
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key: int(rows[key].split()[0]) / 1024 for key in MEMORY}


def threads(pid: int) -> dict[str, Thread]:
    """By thread id, the main thread first."""
    return {
        task.name: _thread(task) for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda task: task.name)
    }


def _thread(task: Path) -> Thread:
    rows = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
    return Thread(
        rows["Name"].strip(),
        int(rows["voluntary_ctxt_switches"]),
        int(rows["nonvoluntary_ctxt_switches"]),
        int((task / "schedstat").read_text().split()[0]),
    )


@contextmanager
def byte_code_kept() -> Iterator[None]:
    """Processes started inside find the byte code of the one before; the first one writes it."""
    before = dict(os.environ)
    with TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]} at {sys.base_prefix}"
