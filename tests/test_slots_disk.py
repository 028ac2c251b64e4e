"""What the disk may do to an update: lose all that was not synced, or have no room left, at any step."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slots_helpers import Board, watching
from slots_steps import STEPS, Step, install
from trust_helpers import ABI, House

from firmware_bridge import durable, launcher


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_bridge.trust.this_abi", lambda: ABI)


class Disk:
    """Remembers what was synced. A name may only be given to what is durable as a whole; and the name is durable, too,
    before the next step relies on it."""

    def __init__(self, board: Board) -> None:
        self._root = board.root
        self._synced: dict[int, tuple[int, int]] = {}
        self._unsynced_names: list[Path] = []
        self.faults: list[str] = []
        self.names: list[str] = []

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "replace" and self._matters(arguments[1]):
            unsynced = [path for path in _all(Path(arguments[0])) if not self._is_synced(path)]
            self.faults += [f"{arguments[1]} has unsynced {path}" for path in [*unsynced, *self._unsynced_names]]
            self.names.append(Path(arguments[1]).name)

    def after(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "fsync":
            facts = os.fstat(arguments[0])
            self._synced[facts.st_ino] = (facts.st_mtime_ns, facts.st_size)
            if stat.S_ISDIR(facts.st_mode):
                self._unsynced_names = [path for path in self._unsynced_names if path.stat().st_ino != facts.st_ino]
        elif name == "replace" and self._matters(arguments[1]):
            self._unsynced_names.append(Path(arguments[1]).parent)

    def _matters(self, path: str | Path) -> bool:
        """What begins with a dot is never used again; the agent's folder is the agent's."""
        inside = Path(path).relative_to(self._root).parts if self._root in Path(path).parents else (".",)
        return not any(part.startswith(".") for part in inside)

    def _is_synced(self, path: Path) -> bool:
        facts = path.stat()
        return self._synced.get(facts.st_ino) == (facts.st_mtime_ns, facts.st_size)


def _all(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


def watched(step: Step, folder: Path, house: House) -> Disk:
    board = Board.made(folder, house)
    step.prepare(board, house)
    disk = Disk(board)
    with watching(disk.before, disk.after):
        step.work(board)
    assert board.installer().run() is None  # all done
    return disk


NAMES = {
    "stage": ["2.0", "2.0", "answer.json"],  # pending/, releases/
    "arm": ["boot.json", "answer.json"],
    "take": ["boot.json"],
    "roll back": ["boot.json"],
    "commit": ["committed.json", "boot.json", "trusted.tuf.zip", "answer.json"],
    "drop": ["boot.json", "answer.json"],
}


@pytest.mark.parametrize("name", STEPS)
def test_everything_is_on_the_disk_before_it_gets_its_name(name: str, tmp_path: Path, house: House) -> None:
    disk = watched(STEPS[name], tmp_path / "board", house)
    assert disk.faults == []
    assert disk.names == NAMES[name]


@pytest.mark.parametrize("name", ["stage", "arm", "commit", "drop"])
def test_this_would_notice_a_step_that_does_not_sync(
    name: str, tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    monkeypatch.setattr(durable, "sync", lambda _fd: None)
    assert watched(STEPS[name], tmp_path / "board", house).faults != []


@pytest.mark.parametrize("name", STEPS)
def test_a_disk_that_is_full_from_any_step_on_costs_the_update_and_nothing_else(
    name: str, tmp_path: Path, house: House
) -> None:
    step = STEPS[name]
    board = Board.made(tmp_path / "board", house)
    step.prepare(board, house)
    clean = board.copy(tmp_path / "clean")
    step.work(clean)
    whole = board.releases() | clean.releases()
    point, was_full = 0, True
    while was_full:
        full = board.copy(tmp_path / f"full-{point}")
        was_full = _with_a_full_disk(point, lambda full=full: step.work(full))
        assert full.releases().items() <= whole.items()
        assert launcher.committed(full.root) in ("1.0", "2.0")
        if step.work is install and not (full.firmware / "request.taken").exists():  # answered: the agent asks again
            (full.firmware / "request.json").write_bytes((board.firmware / "request.json").read_bytes())
        step.work(full)
        assert {key: full.boot()[key] for key in step.done} == step.done
        assert full.releases() == clean.releases()
        point += 1
    print(f"{name}: full at {point - 1} points")
    assert point > 1


def _with_a_full_disk(point: int, work: Callable[[], object]) -> bool:
    left, was_full = point, False

    def refuse(name: str, _arguments: tuple[Any, ...]) -> None:
        nonlocal left, was_full
        if name in ("fsync", "mkdir", "replace"):
            left -= 1
            if left < 0:
                was_full = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with watching(refuse, lambda _name, _arguments: None), contextlib.suppress(OSError):  # not even an answer fits
        work()
    return was_full
