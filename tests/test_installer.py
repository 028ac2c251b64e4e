"""The installer does what it is asked, if it is signed, and believes the agent nothing."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from slots_helpers import Board, program
from trust_helpers import ABI, House

from firmware_bridge import installer, launcher, trust
from firmware_bridge.archive import StoredZip
from firmware_bridge.bundle import read_metadata
from firmware_bridge.installer import Installer, User
from firmware_bridge.requests import Request, answer_to, ask

NOBODY = 65534


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def board(tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Release 1.0 runs; the maker's 2.0 has been downloaded."""
    monkeypatch.setattr(trust, "this_abi", lambda: ABI)
    board = Board.made(tmp_path / "board", house)
    launcher.take(board.root)
    board.fetched(house, "2.0")
    return board


def believes(board: Board) -> set[str]:
    """The metadata that this board trusts; only the root's before the first commit."""
    with StoredZip.open(board.slots.trust / trust.TRUSTED) as archive:
        return set(read_metadata(archive))


def state(board: Board) -> tuple[Any, ...]:
    """All that a refused request must leave as it was."""
    pending = sorted(path.name for path in board.slots.pending.iterdir())
    return board.boot(), board.releases(), pending, believes(board), os.listdir(board.slots.releases)


# ---- what it does ----


def test_an_update_from_the_file_to_the_commit(board: Board) -> None:
    assert board.ask("stage", "2.0").result == 0
    assert set(board.releases()) == {"1.0", "2.0"}
    assert board.slots.record("2.0")["version"] == "2.0"
    assert board.boot()["trial"] is None
    assert board.ask("arm", "2.0").result == 0
    assert (board.boot()["trial"], board.boot()["tries"]) == ("2.0", 3)
    assert launcher.take(board.root) == "2.0"
    assert believes(board) == {"root.json"}
    assert board.ask("commit", "2.0").result == 0
    boot = board.boot()
    assert (boot["current"], boot["previous"], boot["trial"], boot["running"]) == ("2.0", "1.0", None, "2.0")
    assert "timestamp.json" in believes(board)
    assert sorted(os.listdir(board.slots.releases)) == ["1.0", "2.0"]
    assert os.listdir(board.slots.pending) == []


def test_a_second_update_forgets_the_release_before_the_last(board: Board, house: House) -> None:
    for version in ("2.0", "3.0"):
        board.on_trial(house, version)
        board.ask("commit", version, f"commit {version}")
    assert set(board.releases()) == {"2.0", "3.0"}


def test_a_staged_release_has_its_byte_code_and_can_be_read_by_the_agent(board: Board) -> None:
    board.ask("stage", "2.0")
    release = board.slots.folder("2.0")
    assert [path.name for path in release.glob("agent/__pycache__/*")] == ["core.cpython-311.pyc"]
    modes = {oct(path.stat().st_mode & 0o777) for path in [release, *release.rglob("*")]}
    assert modes == {"0o755", "0o644"}


def test_a_power_boards_commit_only_moves_what_is_believed(board: Board, house: House) -> None:
    image = board.firmware / "image"
    shutil.copy(house.image(board.folder / "image", now=datetime.now(UTC)), image)
    before = board.boot(), board.releases()
    answer = board.ask("commit", "7.1", kind="power-board", carrier="image")
    assert (answer.result, answer.text) == (0, "done")
    assert "power-board.json" in believes(board)
    assert (board.boot(), board.releases()) == before


def test_an_older_build_can_be_gone_back_to_when_it_is_signed_anew(board: Board, house: House) -> None:
    board.on_trial(house, "2.0")
    board.ask("commit", "2.0", "8")
    board.fetched(house, "1.5")
    board.on_trial(house, "1.5")
    assert board.ask("commit", "1.5", "9").result == 0
    assert (board.boot()["current"], board.boot()["previous"]) == ("1.5", "2.0")


def test_the_agent_asks_and_is_answered(board: Board) -> None:
    ask(board.firmware, Request("id-1", "stage", "2.0", "agent", "download", "", ("KLC-120",)))
    assert answer_to(board.root, board.firmware, "id-1") is None
    board.installer().run()
    answer = answer_to(board.root, board.firmware, "id-1")
    assert answer is not None
    assert (answer.result, answer.version) == (0, "2.0")


def test_an_installer_that_could_not_answer_is_told_as_a_failure(board: Board) -> None:
    answer = answer_to(board.root, board.firmware, "id-1")
    assert answer is not None
    assert answer.result == 59
    assert "the installer left no answer" in answer.text


def test_nothing_to_do_is_no_error(board: Board) -> None:
    assert board.installer().run() is None


def test_a_second_installer_waits_for_the_first_and_finds_nothing_to_do(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = []
    second = threading.Thread(target=lambda: answers.append(board.installer().run()))
    handle = Installer._handle

    def meanwhile(self: Installer, request: Request) -> None:
        second.start()
        second.join(0.2)
        assert second.is_alive()
        handle(self, request)

    monkeypatch.setattr(Installer, "_handle", meanwhile)
    assert board.ask("stage", "2.0").result == 0
    second.join(10)
    assert answers == [None]


def test_a_request_that_follows_at_once_is_not_taken_for_the_one_before(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Installer._handle

    def impatient(self: Installer, request: Request) -> None:
        handle(self, request)
        if request.do == "stage":
            board.write_request("arm", "2.0", "8")

    monkeypatch.setattr(Installer, "_handle", impatient)
    assert board.ask("stage", "2.0").id == "7"
    answer = board.installer().run()
    assert answer is not None
    assert (answer.id, answer.do, answer.result) == ("8", "arm", 0)


# ---- what it refuses of the maker's ----


def test_a_bundle_of_somebody_else_is_refused(board: Board) -> None:
    foreign = House({role: (f"foreign-{name}",) for role, name in {
        "root": "root-1", "targets": "targets", "snapshot": "online", "timestamp": "online", "agent": "agent",
        "power-board": "power-board"}.items()})  # fmt: skip
    board.fetched(foreign, "2.0")
    before = state(board)
    assert board.ask("stage", "2.0").result == 55
    assert state(board) == before


def test_another_version_than_the_signed_one_is_refused(board: Board) -> None:
    answer = board.ask("stage", "2.1")
    assert (answer.result, answer.text) == (57, "ordered is version '2.1', signed is '2.0'")


def test_a_release_for_other_hardware_is_refused(board: Board) -> None:
    assert board.ask("stage", "2.0", hardware=["KLC-60"]).result == 56


def test_an_image_of_a_power_board_is_not_installed_as_the_agent(board: Board, house: House) -> None:
    house.image(board.firmware / "download", version="2.0", hardware="KLC-120", now=datetime.now(UTC))
    answer = board.ask("stage", "2.0")
    assert answer.result == 56
    assert "signed for power-board" in answer.text


def test_a_version_never_stands_for_two_builds_while_it_is_in_use(board: Board, house: House) -> None:
    board.on_trial(house, "2.0")
    board.ask("commit", "2.0", "8")
    assert board.ask("stage", "2.0").result == 0  # the same build
    before = board.releases()
    board.fetched(house, "2.0", program("2.0 again"))
    answer = board.ask("stage", "2.0")
    assert (answer.result, answer.text) == (57, "another build of 2.0 is in use: a new build needs a new version")
    assert board.releases() == before


def test_a_staged_release_is_replaced_by_another_build_of_its_version(board: Board, house: House) -> None:
    board.ask("stage", "2.0")
    board.fetched(house, "2.0", program("2.0 again"))
    assert board.ask("stage", "2.0").result == 0
    assert board.releases()["2.0"]["__main__.py"] == program("2.0 again")


@pytest.mark.parametrize(
    ("selftest", "text"),
    [
        ("print('no cext here'); sys.exit(3)", "the self-test ended with 3: no cext here"),
        ("print('waits', flush=True); time.sleep(60)", "the self-test took longer than 1 s: waits"),
        ("os.close(1); os.close(2); time.sleep(60)", "the self-test took longer than 1 s: "),
        ("os.abort()", "the self-test ended with -6: "),
        ("print('x' * 1000_000); sys.exit(4)", "the self-test ended with 4: " + 300 * "x"),
    ],
)
def test_a_release_that_does_not_pass_its_self_test_is_not_staged(
    board: Board, house: House, selftest: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "SELFTEST_S", 1.0)
    board.fetched(house, "2.0", program("2.0", selftest))
    before = state(board)
    answer = board.ask("stage", "2.0")
    assert (answer.result, answer.text) == (59, text)
    board.slots.clean()
    assert state(board) == before


def test_the_disks_reserve_is_left_alone(board: Board) -> None:
    board.write_request("stage", "2.0")
    answer = Installer(board.root, board.firmware, User.named(None), reserve_bytes=1 << 60).run()
    assert answer is not None
    assert answer.result == 58
    assert "1152921504606846976 stay for bills" in answer.text


# ---- what it refuses of the agent's ----


@pytest.mark.parametrize("odd", ["link", "dangling link", "pipe", "folder", "huge", "no JSON", "a list", "too deep"])
def test_a_request_that_is_none_is_removed_and_does_nothing(board: Board, odd: str) -> None:
    request, secret = board.firmware / "request.json", board.folder / "secret"
    secret.write_text('{"id": "1", "do": "stage", "version": "2.0", "carrier": "download", "hardware": ["KLC-120"]}')
    match odd:
        case "link":
            request.symlink_to(secret)
        case "dangling link":
            request.symlink_to("/nowhere")
        case "pipe":
            os.mkfifo(request)
        case "folder":
            (request / "full").mkdir(parents=True)
        case "huge":
            request.write_bytes(b" " * (1 << 20))
        case "no JSON":
            request.write_bytes(b"\xff")
        case "a list":
            request.write_bytes(b"[]")
        case "too deep":
            request.write_bytes(b"[" * 10_000)
    before = state(board)
    answer = board.installer().run()
    assert answer is not None
    assert answer.result == 59
    assert state(board) == before
    assert secret.exists()
    assert not any(os.path.lexists(board.firmware / name) for name in ("request.json", "request.taken"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("do", "run"), ("do", ""), ("do", ["stage"]), ("kind", "root"), ("id", 7), ("id", "x" * 2000),
        ("version", "../1.0"), ("version", ".hidden"), ("version", "a/b"), ("version", "1" * 33), ("version", ""),
        ("version", "2.0\n"), ("version", None), ("kind", "power-board"), ("hardware", "KLC-120"), ("hardware", [7]),
        ("carrier", {"a": 1}),
    ],
)  # fmt: skip
def test_a_field_that_makes_no_sense_is_named(board: Board, field: str, value: object) -> None:
    before = state(board)
    board.write_request("stage", "2.0")
    path = board.firmware / "request.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    answer = board.installer().run()
    assert answer is not None
    assert answer.result == 59
    assert answer.text.startswith(f"{field} = ")
    assert state(board) == before


@pytest.mark.parametrize(
    "carrier",
    ["../secret", "job/../../secret", "/etc/passwd", "link", "folder/secret", "pipe", "..", "", "absent", "a\0b"],
)
def test_only_a_plain_file_of_the_firmware_folder_is_read(board: Board, carrier: str) -> None:
    shutil.copy(board.firmware / "download", board.folder / "secret")  # even a good one
    (board.firmware / "link").symlink_to(board.folder / "secret")
    (board.firmware / "folder").symlink_to(board.folder)
    os.mkfifo(board.firmware / "pipe")
    before = state(board)
    answer = board.ask("stage", "2.0", carrier=carrier)
    assert (answer.result, "firmware folder" in answer.text) == (59, True)
    assert state(board) == before


def test_a_path_may_be_given_in_full(board: Board) -> None:
    assert board.ask("stage", "2.0", carrier=str(board.firmware / "download")).result == 0


def test_a_file_that_is_exchanged_after_it_was_verified_changes_nothing(
    board: Board, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = trust.Update.release

    def exchanged(self: trust.Update, version: str) -> object:
        (board.firmware / "download").write_bytes(b"evil" * 1000)
        return release(self, version)

    monkeypatch.setattr(trust.Update, "release", exchanged)
    assert board.ask("stage", "2.0").result == 0
    assert board.releases()["2.0"]["__main__.py"] == program("2.0")


def test_a_file_without_end_is_not_copied_to_its_end(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "CARRIER_BYTES", 1000)
    answer = board.ask("stage", "2.0")
    assert (answer.result, answer.text) == (59, "'download' is larger than 1000 bytes")


def test_a_fault_of_the_installer_itself_is_an_answer_too(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "open_update", lambda *_arguments, **_named: 1 // 0)
    answer = board.ask("stage", "2.0")
    assert (answer.result, answer.text) == (59, "ZeroDivisionError: integer division or modulo by zero")


# ---- in which order ----


@pytest.mark.parametrize(
    ("do", "text"),
    [
        ("arm", "release 2.0 is not staged"),
        ("commit", "release 2.0 is not on trial: current 1.0, trial None"),
        ("drop", "done"),
    ],
)
def test_what_is_asked_before_it_is_staged(board: Board, do: str, text: str) -> None:
    assert board.ask(do, "2.0").text == text
    assert board.boot()["current"] == "1.0"


def test_a_release_that_was_armed_and_not_started_is_not_committed(board: Board) -> None:
    board.ask("stage", "2.0")
    board.ask("arm", "2.0")
    assert board.ask("commit", "2.0").result == 59


def test_the_committed_release_is_not_tried(board: Board) -> None:
    assert board.ask("arm", "1.0").text == "release 1.0 is committed already"


def test_the_same_order_to_arm_gives_no_new_tries(board: Board) -> None:
    """A power cut may have it handled again, after starts that have cost some, or all."""
    board.ask("stage", "2.0")
    board.ask("arm", "2.0", "8")
    for tries in (2, 1, 0):
        launcher.take(board.root)
        board.ask("arm", "2.0", "8")
        assert board.boot()["tries"] == tries
    assert launcher.take(board.root) == "1.0"
    board.ask("arm", "2.0", "8")
    assert board.boot()["trial"] is None
    board.ask("arm", "2.0", "9")  # a new order does
    assert (board.boot()["tries"], board.boot()["failed"]) == (3, {})


def test_while_one_is_on_trial_no_other_is_armed(board: Board, house: House) -> None:
    board.on_trial(house, "2.0")
    board.fetched(house, "3.0")
    board.ask("stage", "3.0")
    assert board.ask("arm", "3.0", "9").text == "release 2.0 is on trial, 3.0 must wait"


def test_a_release_on_trial_is_not_dropped(board: Board, house: House) -> None:
    board.on_trial(house, "2.0")
    assert board.ask("drop", "2.0").result == 59
    assert set(board.releases()) == {"1.0", "2.0"}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_what_runs_and_what_would_be_gone_back_to_is_never_removed(board: Board, house: House, version: str) -> None:
    board.on_trial(house, "2.0")
    board.ask("commit", "2.0")
    assert board.ask("drop", version).result == 0
    assert set(board.releases()) == {"1.0", "2.0"}


def test_a_failed_release_goes_when_it_is_dropped_and_its_reason_stays(board: Board, house: House) -> None:
    board.on_trial(house, "2.0")
    for _ in range(3):
        launcher.take(board.root)
    assert board.ask("drop", "2.0").result == 0
    assert set(board.releases()) == {"1.0"}
    assert "2.0" in board.boot()["failed"]
    assert os.listdir(board.slots.pending) == []


def test_a_release_that_is_staged_anew_has_not_failed_yet(board: Board, house: House) -> None:
    """Or a kill before its second trial would be taken for the end of it."""
    board.on_trial(house, "2.0")
    for _ in range(3):
        launcher.take(board.root)
    board.ask("drop", "2.0")
    assert board.ask("stage", "2.0", "9").result == 0
    assert board.boot()["failed"] == {}


# ---- with whose rights ----


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest's folders are closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_the_agents_files_are_opened_and_the_self_test_runs_with_the_agents_rights(
    open_folder: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "this_abi", lambda: ABI)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # ours may lie where nobody else may look
    board = Board.made(open_folder / "board", house)
    says_who = "print(os.getuid(), os.getgid(), os.getgroups(), os.getcwd()); sys.exit(1)"
    board.fetched(house, "2.0", program("2.0", says_who))
    board.write_request("stage", "2.0")
    os.chown(board.firmware, NOBODY, NOBODY)
    os.chmod(board.firmware / "download", 0o600)  # root's: the agent could not read it
    work = Installer(board.root, board.firmware, User(NOBODY, NOBODY), reserve_bytes=0)
    answer = work.run()
    assert answer is not None
    assert "Permission denied" in answer.text
    os.chown(board.firmware / "download", NOBODY, NOBODY)
    board.write_request("stage", "2.0")
    answer = work.run()
    assert answer is not None
    assert answer.text == f"the self-test ended with 1: {NOBODY} {NOBODY} [] /"
    assert os.geteuid() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up rights")
def test_the_two_capabilities_that_the_unit_leaves_to_it_are_enough(open_folder: Path, house: House) -> None:
    """Root without CAP_DAC_OVERRIDE can't open what is the agent's alone."""
    board = Board.made(open_folder / "board", house)
    board.fetched(house, "2.0", program("2.0", "print(os.getuid()); sys.exit(os.getuid() == 0)"))
    board.write_request("stage", "2.0")
    for path in (board.firmware / "download", board.firmware / "request.json", board.firmware):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700)
    command = ["setpriv", "--bounding-set=-all,+setuid,+setgid", "--no-new-privs", "/usr/bin/python3"]
    command += ["-m", "firmware_bridge.installer", "--root", str(board.root), "--requests", str(board.firmware)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run([*command, "--user", "nobody"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "stage 2.0: done\n"), done.stderr
    assert set(board.releases()) == {"1.0", "2.0"}
    assert [path.name for path in board.firmware.iterdir()] == ["download"]
