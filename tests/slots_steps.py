"""Everything that changes the disk in an update: what precedes it, what is done, and how it ends."""

from collections.abc import Callable
from dataclasses import dataclass

from slots_helpers import Board
from trust_helpers import House

from firmware_bridge import launcher


@dataclass(frozen=True)
class Step:
    """``prepare`` a board of release 1.0, then let ``work`` be killed; ``done`` is what boot.json says at the end."""

    prepare: Callable[[Board, House], None]
    work: Callable[[Board], object]
    done: dict[str, object]


def fetch(board: Board, house: House) -> None:
    board.fetched(house, "2.0")
    board.write_request("stage", "2.0")


def staged(board: Board, house: House) -> None:
    board.fetched(house, "2.0")
    assert board.ask("stage", "2.0").result == 0


def order_arm(board: Board, house: House) -> None:
    staged(board, house)
    board.write_request("arm", "2.0", "8")


def armed(board: Board, house: House) -> None:
    order_arm(board, house)
    board.installer().run()


def spent(board: Board, house: House) -> None:
    armed(board, house)
    for _ in range(3):
        assert launcher.take(board.root) == "2.0"


def order_commit(board: Board, house: House) -> None:
    """On a board that has a release 0.9 to forget."""
    board.unpack("0.9")
    board.on_trial(house, "2.0")
    board.write_request("commit", "2.0")


def order_drop(board: Board, house: House) -> None:
    armed(board, house)
    board.write_request("drop", "2.0")


def install(board: Board) -> object:
    return board.installer().run()


def take(board: Board) -> object:
    return launcher.take(board.root)


NOT_READY = "it was started as often as allowed and did not prove itself"
STEPS = {
    "stage": Step(fetch, install, {"current": "1.0", "trial": None}),
    "arm": Step(order_arm, install, {"current": "1.0", "trial": "2.0", "tries": 3}),
    "take": Step(armed, take, {"current": "1.0", "trial": "2.0", "running": "2.0"}),
    "roll back": Step(spent, take, {"current": "1.0", "trial": None, "running": "1.0", "failed": {"2.0": NOT_READY}}),
    "commit": Step(order_commit, install, {"current": "2.0", "previous": "1.0", "trial": None, "failed": {}}),
    "drop": Step(order_drop, install, {"current": "1.0", "trial": None, "failed": {}}),
}
