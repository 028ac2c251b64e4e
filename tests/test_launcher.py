"""launcher.py, run as it runs on a pile: alone, by the system's Python, again and again."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slots_helpers import LAUNCHER, Board, program
from trust_helpers import House

from firmware_bridge import launcher
from firmware_bridge.requests import say_why

NOT_READY = "it was started as often as allowed and did not prove itself"


@pytest.fixture(scope="module")
def house() -> House:
    return House()


@pytest.fixture
def board(tmp_path: Path, house: House) -> Board:
    """Release 1.0 is committed, 2.0 staged."""
    board = Board.made(tmp_path / "board", house)
    board.unpack("2.0")
    return board


def arm(board: Board, main: bytes | None = None) -> None:
    if main is not None:
        (board.slots.folder("2.0") / "__main__.py").write_bytes(main)
        shutil.rmtree(board.slots.folder("2.0") / "__pycache__")
    board.slots.arm("2.0", "7")


def test_the_committed_release_gets_all_arguments(board: Board) -> None:
    assert board.launch("run", "--config", "/etc/x").stdout == "1.0 run --config /etc/x -\n"
    assert board.launch("--version").stdout == "1.0 --version -\n"


def test_it_works_alone_where_the_package_puts_it(board: Board) -> None:
    copy = board.root / "launcher.py"
    copy.write_bytes(LAUNCHER.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", str(copy), "--root", str(board.root), "run", "x"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert (done.stdout, done.stderr) == ("1.0 x -\n", "")


def test_a_release_on_trial_is_told_so_and_costs_a_try_at_each_start(board: Board) -> None:
    arm(board)
    starts = [(board.launch("run").stdout, board.boot()["tries"]) for _ in range(4)]
    assert starts == [("2.0 run 2.0\n", 2), ("2.0 run 2.0\n", 1), ("2.0 run 2.0\n", 0), ("1.0 run -\n", 0)]
    assert board.boot()["trial"] is None
    assert board.boot()["failed"] == {"2.0": NOT_READY}
    assert board.launch("run").stdout == "1.0 run -\n"  # and not tried again


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (b"import module_that_is_not_there", 1),
        (b"this is not Python", 1),
        (b"raise SystemExit(0)", 0),
        (b"import os; os.abort()", -6),
    ],
    ids=["crashes at import", "cannot be read", "ends at once", "dies of a signal"],
)
def test_a_release_that_does_not_stay_up_is_gone_back_from(board: Board, main: bytes, code: int) -> None:
    arm(board, main)
    assert [board.launch("run").returncode for _ in range(3)] == [code] * 3
    assert board.launch("run").stdout == "1.0 run -\n"


def test_a_release_that_hangs_is_gone_back_from_when_the_watchdog_has_killed_it_three_times(board: Board) -> None:
    arm(board, b"import time; print('hangs', flush=True); time.sleep(600)")
    command = [sys.executable, "-I", str(LAUNCHER), "--root", str(board.root), "run", "run"]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"hangs\n"
            agent.kill()
    assert board.launch("run").stdout == "1.0 run -\n"


def test_what_the_release_said_of_itself_is_the_reason(board: Board) -> None:
    arm(board)
    say_why(board.firmware, "2.0", "the power board does not answer\x1b[2J\nat unit 1" + 500 * "!")
    for _ in range(4):
        board.launch("run")
    reason = board.boot()["failed"]["2.0"]
    assert reason.startswith("the power board does not answer [2J at unit 1!!!")
    assert len(reason) == 200


@pytest.mark.parametrize("odd", ["of another", "link", "second name", "pipe", "folder", "huge", "no JSON", "no text"])
def test_a_reason_that_is_not_the_releases_own_plain_file_is_not_read(board: Board, odd: str) -> None:
    arm(board)
    why, secret = board.firmware / "why.json", board.folder / "secret"
    secret.write_text('{"version": "2.0", "text": "secret"}')
    match odd:
        case "of another":
            say_why(board.firmware, "1.9", "secret")
        case "link":
            why.symlink_to(secret)
        case "second name":
            why.hardlink_to(secret)
        case "pipe":
            os.mkfifo(why)
        case "folder":
            why.mkdir()
        case "huge":
            why.write_text('{"version": "2.0", "text": "' + 5000 * "secret" + '"}')
        case "no JSON":
            why.write_bytes(b"\xff\x00")
        case "no text":
            why.write_text('{"version": "2.0", "text": 5}')
    for _ in range(4):
        board.launch("run")
    assert board.boot()["failed"] == {"2.0": NOT_READY}


def test_a_trial_without_its_files_ends_at_once(board: Board) -> None:
    arm(board)
    (board.slots.folder("2.0") / "__main__.py").unlink()
    assert board.launch("run").stdout == "1.0 run -\n"
    assert board.boot()["failed"] == {"2.0": "its files are incomplete"}


def test_a_committed_release_without_its_files_is_replaced_by_the_one_before(board: Board) -> None:
    board.slots.adopt("2.0")
    shutil.rmtree(board.slots.folder("2.0"))
    done = board.launch("run")
    assert done.stdout == "1.0 run -\n"
    assert done.stderr == "launcher: release 2.0 cannot be started, takes 1.0\n"


DAMAGED = {
    "empty": b"",
    "half": b'{"current": "2.0", "previ',
    "a list": b"[]",
    "zeros": bytes(4096),
    "a path": b'{"current": "../../../tmp"}',
    "hidden": b'{"current": ".incoming-2.0"}',
    "a number": b'{"current": 2.0}',
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", [*DAMAGED, "absent", "a folder"])
def test_without_a_usable_boot_json_it_starts_what_was_committed_last(board: Board, name: str) -> None:
    """committed.json says so; 2.0, which was only staged, is the higher number."""
    boot = board.root / "boot.json"
    boot.unlink()
    if name == "a folder":
        boot.mkdir()
    elif name != "absent":
        boot.write_bytes(DAMAGED[name])
    assert [board.launch("run").stdout for _ in range(2)] == ["1.0 run -\n"] * 2
    if name != "a folder":
        assert board.boot()["current"] == "1.0"


def test_without_either_file_it_starts_the_highest_version_there_is(board: Board) -> None:
    board.unpack("1.10")
    board.unpack("1.9")
    shutil.rmtree(board.slots.folder("2.0"))
    for name in ("boot.json", "committed.json"):
        (board.root / name).write_bytes(b"\xff")
    assert board.launch("run").stdout == "1.10 run -\n"
    assert board.boot()["current"] == "1.10"


def test_with_nothing_to_start_it_says_so(board: Board) -> None:
    shutil.rmtree(board.slots.releases)
    done = board.launch("run")
    assert done.returncode == 1
    assert f"launcher: no release in {board.slots.releases} can be started" in done.stderr


def test_fields_of_a_later_release_are_kept_and_odd_ones_do_no_harm(board: Board) -> None:
    arm(board)
    odd = {"generation": [2], "tries": "many", "failed": ["?"], "running": {"a": 1}, "previous": "../x"}
    (board.root / "boot.json").write_text(json.dumps(board.boot() | odd))
    assert board.launch("run").stdout == "1.0 run -\n"  # no try can be counted, so none is taken
    assert board.boot()["generation"] == [2]
    assert board.boot()["previous"] is None


def test_a_trial_cannot_lead_out_of_the_releases(board: Board) -> None:
    (board.folder / "evil").mkdir()
    (board.folder / "evil" / "__main__.py").write_bytes(program("evil"))
    (board.root / "boot.json").write_text(json.dumps(board.boot() | {"trial": "../../evil", "tries": 3}))
    assert board.launch("run").stdout == "1.0 run -\n"


# ---- take as root, exec as the agent: systemd gives both of one start the same INVOCATION_ID ----


def test_exec_starts_what_take_has_chosen_and_everybody_else_gets_what_is_committed(board: Board) -> None:
    arm(board)
    assert board.launch(do="take", INVOCATION_ID="a").returncode == 0
    assert board.launch("run", do="exec", INVOCATION_ID="a").stdout == "2.0 run 2.0\n"
    assert board.launch("status", do="exec", INVOCATION_ID="b").stdout == "1.0 status -\n"
    assert board.launch("-m", "x", do="committed", INVOCATION_ID="a").stdout == "1.0 -m x -\n"
    assert board.boot()["tries"] == 2


def test_a_try_that_cannot_be_written_down_is_not_spent(board: Board) -> None:
    """A full disk would let a release that crashes be tried for ever."""
    arm(board)
    board.launch(do="take", INVOCATION_ID="a")
    before = board.boot()
    command = [sys.executable, "-I", str(LAUNCHER), "--root", str(board.root), "take"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"INVOCATION_ID": "b"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )  # fmt: skip
    assert done.returncode == 0
    assert "cannot write boot.json: [Errno 27] File too large; starts what is committed" in done.stderr
    assert board.boot() == before
    assert board.launch("run", do="exec", INVOCATION_ID="b").stdout == "1.0 run -\n"
    assert board.launch("run").stdout == "2.0 run 2.0\n"  # there is room again


def test_two_starts_at_once_take_two_tries(board: Board) -> None:
    arm(board)
    command = [sys.executable, "-I", str(LAUNCHER), "--root", str(board.root), "take"]
    for start in [subprocess.Popen(command) for _ in range(2)]:
        assert start.wait(30) == 0
    assert board.boot()["tries"] == 1


def test_no_more_than_eight_failures_are_remembered(board: Board) -> None:
    failed = {f"1.{number}": "broken" for number in range(20)}
    arm(board)
    (board.root / "boot.json").write_text(json.dumps(board.boot() | {"failed": failed, "tries": 0}))
    board.launch("run")
    assert list(board.boot()["failed"]) == [*(f"1.{number}" for number in range(13, 20)), "2.0"]


@pytest.mark.parametrize("name", ["", ".", "..", ".git", "a/b", "/etc", "a\0b", "a b", "ä", "1" * 33, "1.0\n"])
def test_what_is_no_version(name: str) -> None:
    assert not launcher.is_version(name)


@pytest.mark.parametrize("name", ["1", "1.2.3", "2026.11-rc_1+x", "1" * 32, "-1", "v..2"])
def test_what_is_a_version(name: str) -> None:
    assert launcher.is_version(name)
