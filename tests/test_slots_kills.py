"""An update is killed before and after every change it makes on the disk: what starts then is the old release or the
new one, whole, and the same request again ends as if nothing had happened."""

from pathlib import Path

import pytest
from slots_helpers import Board, killed_at
from slots_steps import STEPS, Step, install, take
from trust_helpers import ABI, House

from firmware_bridge import launcher, slots


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.mark.parametrize("name", STEPS)
def test_a_kill_anywhere_leaves_the_old_release_or_the_new_one_and_nothing_to_repair(
    name: str, tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmware_bridge.trust.this_abi", lambda: ABI)
    points = kill_everywhere(STEPS[name], tmp_path, house)
    print(f"{name}: killed at {points} points")
    assert points >= 6  # a file is written, renamed and its folder synced at the least


def kill_everywhere(step: Step, folder: Path, house: House) -> int:
    board = Board.made(folder / "board", house)
    step.prepare(board, house)
    clean = board.copy(folder / "clean")
    step.work(clean)
    whole = board.releases() | clean.releases()
    point = 0
    while True:
        struck = board.copy(folder / f"struck-{point}")
        was_killed = killed_at(point, lambda board=struck: step.work(board))
        assert_starts_something_whole(struck, folder / f"started-{point}", whole)
        assert_ends_as_ever(step, struck, clean)
        if not was_killed:
            return point
        point += 1


def assert_starts_something_whole(board: Board, folder: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """Whatever is started here, and whatever else could be, has every byte of what was signed."""
    releases = board.releases()
    assert releases.items() <= whole.items()
    after = board.copy(folder)
    assert launcher.take(after.root) in ("1.0", "2.0")
    assert launcher.committed(after.root) in ("1.0", "2.0")
    (after.root / "boot.json").unlink()
    assert launcher.take(after.root) in ("1.0", "2.0")


def assert_ends_as_ever(step: Step, board: Board, clean: Board) -> None:
    """Handled again after the power is back, like the path unit does it. A start costs a try each time it is taken."""
    if step.work is take:
        tries = board.boot()["tries"]
        assert tries in (clean.boot()["tries"], clean.boot()["tries"] + 1)
    step.work(board)
    boot = board.boot()
    assert {name: boot[name] for name in step.done} == step.done
    assert board.releases() == clean.releases()
    assert (board.root / "pending" / "2.0").exists() == (clean.root / "pending" / "2.0").exists()
    assert [path.name for path in board.firmware.iterdir() if "request" in path.name] == []
    if step.work is install:
        assert (board.root / "answer.json").read_text() == (clean.root / "answer.json").read_text()


def test_these_kills_would_find_a_release_that_is_copied_into_its_place(
    tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: without the rename there are moments with half a release."""
    monkeypatch.setattr("firmware_bridge.trust.this_abi", lambda: ABI)

    def copied(self: slots.Slots, incoming: Path, version: str) -> None:
        for path in [incoming, *sorted(incoming.rglob("*"))]:
            target = self.folder(version) / path.relative_to(incoming)
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())

    monkeypatch.setattr(slots.Slots, "put", copied)
    with pytest.raises(AssertionError):
        kill_everywhere(STEPS["stage"], tmp_path, house)
