"""scripts/dist: what is handed out for this machine's architecture, and that it is the same each time."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from agent.version import VERSION

HOME = Path(__file__).parents[1]
PACKAGE = f"pile-agent_{VERSION}_amd64.deb"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("dist"))


def made(out: Path) -> Path:
    command = [HOME / "scripts" / "dist", "--out", out, "amd64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    sizes = {name: int(size) for size, name in re.findall(r"^ *(\d+)  (.+)$", done.stdout, re.MULTILINE)}
    assert sizes == {file.name: file.stat().st_size for file in out.iterdir()}
    return out


def deb(dist: Path, *options: str) -> str:
    return subprocess.run(["dpkg-deb", *options, dist / PACKAGE], capture_output=True, text=True, check=True).stdout


def test_the_same_tree_gives_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    again = made(tmp_path)
    for file in dist.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_package_holds_the_release_the_launcher_and_what_systemd_needs(dist: Path) -> None:
    listed = [line.split()[-1] for line in deb(dist, "-c").splitlines()]
    assert [name for name in listed if "/usr/lib/pile-agent/release/" not in name and not name.endswith("/")] == [
        "./etc/pile-agent/pile.toml.example",
        "./opt/pile-agent/launcher.py",
        "./usr/bin/pile-agent",
        "./usr/lib/systemd/system/pile-agent-reboot.path",
        "./usr/lib/systemd/system/pile-agent-update.path",
        "./usr/lib/systemd/system/pile-agent-update.service",
        "./usr/lib/systemd/system/pile-agent.service",
        "./usr/lib/sysusers.d/pile-agent.conf",
        "./usr/lib/tmpfiles.d/pile-agent.conf",
        "./usr/lib/udev/rules.d/70-pile-agent.rules",
        "./usr/share/doc/pile-agent/CHANGELOG.md",
        "./usr/share/doc/pile-agent/README.md",
    ]
    assert {line.split()[1] for line in deb(dist, "-c").splitlines()} == {"root/root"}
    assert "./usr/lib/pile-agent/release/__main__.py" in listed


def test_the_package_s_example_has_what_the_package_has_made(dist: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", dist / PACKAGE, tmp_path], check=True)
    example = (tmp_path / "etc/pile-agent/pile.toml.example").read_text(encoding="utf-8")
    assert 'install_dir = "/opt/pile-agent"' in example.splitlines()[-6]
    assert '\nreboot_command = ["touch", "/run/pile-agent/reboot"]' in example


def test_the_wheel_says_what_it_runs_on_and_holds_no_sources_of_the_extensions(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"pile_agent-{VERSION}-cp311-cp311-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sorted(name for name in names if name.endswith((".so", ".c", ".pyx"))) == [
        "cext/message.cpython-311-x86_64-linux-gnu.so",
        "cext/rtu.cpython-311-x86_64-linux-gnu.so",
    ]


def test_a_wrong_word_is_answered_with_what_was_expected(tmp_path: Path) -> None:
    done = subprocess.run([HOME / "scripts" / "dist", "mips"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "dist: mips? expected --root-json FILE, --out DIR, amd64, arm64 or armhf\n"
