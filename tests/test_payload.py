"""scripts/payload: a release of this tree, small, reproducible, and good for the whole way to a commit."""

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from slots_helpers import Board
from trust_helpers import ABI, House

from agent.version import VERSION
from firmware_bridge import launcher, trust
from firmware_bridge.archive import StoredZip
from firmware_bridge.bundle import Release

SCRIPT = Path(__file__).parents[1] / "scripts" / "payload"
BYTES_MOST = 8_000_000


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("payload") / "payload.zip")


def built(out: Path) -> Path:
    done = subprocess.run([SCRIPT, out], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: {out.stat().st_size} bytes, ")
    return out


def names(payload: Path) -> Sequence[str]:
    with zipfile.ZipFile(payload) as archive:
        return archive.namelist()


def test_it_is_smaller_than_its_limit(payload: Path) -> None:
    assert payload.stat().st_size < BYTES_MOST


def test_it_holds_what_runs_on_a_pile_and_nothing_else(payload: Path) -> None:
    found = names(payload)
    assert {name.split("/")[0].split("-")[0] for name in found} == {
        "__main__.py", "agent", "cext", "firmware_bridge", "minimalmodbus", "minimalmodbus.py", "paho", "paho_mqtt",
        "pile_agent", "pyserial", "securesystemslib", "serial", "tuf", "urllib3",
    }  # fmt: skip
    assert {"agent/power/profiles/reference.toml", "firmware_bridge/launcher.py"} <= set(found)
    odd = (".c", ".pyx", ".pyi", ".pyc", "/RECORD", "direct_url.json")
    assert [name for name in found if name.endswith(odd) or "test" in name.rsplit("/", 1)[-1].split("_")] == []


def test_the_same_tree_gives_the_same_bytes(payload: Path, tmp_path: Path) -> None:
    assert built(tmp_path / "again.zip").read_bytes() == payload.read_bytes()


def test_nothing_of_the_machine_that_built_it_is_in_it(payload: Path) -> None:
    places = (str(Path(__file__).parents[1]).encode(), str(Path.home()).encode() + b"/", b"/tmp/tmp.")
    with zipfile.ZipFile(payload) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert [place for place in places if place in data] == [], name


def test_it_can_be_staged_tried_and_committed(
    payload: Path, tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "this_abi", lambda: ABI)
    board = Board.made(tmp_path / "board", house, "0.0.9")
    bundle(payload, house, board.firmware / "download")
    assert board.ask("stage", VERSION).text == "done"
    assert board.ask("arm", VERSION, "8").text == "done"
    done = board.launch("--version")
    assert (done.stdout, done.stderr) == (f"pile-agent {VERSION}\n", "")
    module = board.launch("-m", "firmware_bridge.installer", "--help", do="exec")
    assert "usage: installer" in module.stdout
    assert board.ask("commit", VERSION, "9").text == "done"
    assert launcher.committed(board.root) == VERSION


def test_another_python_than_it_was_built_for_is_told_in_words(payload: Path, tmp_path: Path) -> None:
    with StoredZip.open(payload) as archive:
        archive.unpack_to(tmp_path / "release")
    for extension in (tmp_path / "release" / "cext").glob("*.so"):
        extension.rename(extension.with_name(extension.name.replace("311", "313")))
    done = subprocess.run([sys.executable, "-I", tmp_path / "release", "run"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("pile-agent: Python 3.")
    assert "this release was built with ['rtu.cpython-313-" in done.stderr


@pytest.fixture
def house() -> House:
    return House()


def bundle(payload: Path, house: House, path: Path) -> None:
    import io

    from firmware_bridge import maker
    from firmware_bridge.archive import sha256_of

    data = payload.read_bytes()
    sha256 = sha256_of(io.BytesIO(data), 0, len(data))
    with StoredZip.open(payload) as archive:
        unpacked = archive.unpacked
    release = Release(
        "agent/payload.zip", "agent", VERSION, ("KLC-120",), ABI, len(data), sha256, unpacked
    )  # fmt: skip
    house.repository.add_release(release, datetime.now(UTC))
    house.sign()
    maker.write_bundle(path, house.repository, (f"{sha256}.payload.zip", io.BytesIO(data)))
