"""The disk image, as far as it shows without being made: its parts fit each other, and systemd understands them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
IMAGE = HOME / "packaging" / "image"
ROOT = IMAGE / "root"
SCRIPT = (HOME / "scripts" / "image").read_text(encoding="utf-8")
MIB = 1 << 20
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def run(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, env={"PATH": PATH})
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def scripts() -> list[Path]:
    return [HOME / "scripts" / "image", *(file for file in ROOT.rglob("*") if file.is_file() and _is_script(file))]


def _is_script(file: Path) -> bool:
    return file.read_bytes().startswith(b"#!/bin/sh")


def mounts() -> dict[str, list[str]]:
    lines = (ROOT / "etc" / "fstab").read_text(encoding="utf-8").splitlines()
    return {row[1]: row for line in lines if (row := line.split()) and not line.startswith("#")}


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_the_scripts_are_executable_and_the_shell_can_read_them(script: Path) -> None:
    assert script.stat().st_mode & 0o111 == 0o111
    assert run("sh", "-n", str(script)) == ""


def test_the_partitions_are_where_the_script_writes_them_and_the_table_s_copy_fits_behind(tmp_path: Path) -> None:
    if shutil.which("sfdisk", path=PATH) is None:
        pytest.fail("sfdisk: not installed; Debian's package fdisk has it")
    size_mib = int(re.findall(r'truncate -s (\d+)M "\$image"', SCRIPT)[0])
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(size_mib * MIB)
    run("sfdisk", "--quiet", str(image), given=(IMAGE / "layout.sfdisk").read_text(encoding="utf-8"))
    table = json.loads(run("sfdisk", "--json", str(image)))["partitiontable"]
    found = {part["name"]: (part["start"] // 2048, part["size"] // 2048) for part in table["partitions"]}
    seeks = [int(seek) for seek in re.findall(r"bs=1M seek=(\d+) ", SCRIPT)]
    sizes = {name: int(size) for size, name in re.findall(r'truncate -s (\d+)M "\$work/(\w+\.\w+)"', SCRIPT)}
    assert found == {"pile-boot": (seeks[0], sizes["boot.fat"]), "pile-root": (seeks[1], sizes["root.ext4"])}


def test_only_the_data_partition_is_mounted_writable() -> None:
    read_only = {name for name, row in mounts().items() if "ro" in row[3].split(",")}
    assert read_only == {"/", "/boot/efi"}
    assert {name for name, row in mounts().items() if row[0].startswith("/data/")} == {
        "/etc/pile-agent", "/opt/pile-agent", "/var/lib/pile-agent", "/var/lib/systemd",
    }  # fmt: skip
    assert {row[0] for name, row in mounts().items() if name not in read_only} == {
        "PARTLABEL=pile-data", "tmpfs", "/data/config", "/data/releases", "/data/agent", "/data/systemd",
    }  # fmt: skip


def test_the_script_moves_into_the_data_partition_what_fstab_mounts_from_there() -> None:
    moved = dict(pair.split(":") for pair in re.findall(r" ([a-z]+:[a-z]+/[a-z/-]+)", SCRIPT))
    bound = {row[0].removeprefix("/data/"): name.lstrip("/") for name, row in mounts().items() if row[3] == "bind"}
    assert moved == bound


@pytest.mark.parametrize("name", ["pile-image-prepare.service", "pile-image-take.service"])
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path, name: str) -> None:
    text = (ROOT / "etc" / "systemd" / "system" / name).read_text(encoding="utf-8")
    unit = tmp_path / name
    unit.write_text(text.replace("/usr/lib/pile-image", f"{ROOT}/usr/lib/pile-image"), encoding="utf-8")
    assert _said(name, unit) == []
    unit.write_text(unit.read_text(encoding="utf-8").replace("Type=", "Typ="), encoding="utf-8")
    assert len(_said(name, unit)) == 1


def _said(name: str, unit: Path) -> list[str]:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if name in line]


def test_the_units_are_enabled_and_what_they_start_is_there() -> None:
    for unit in (ROOT / "etc" / "systemd" / "system").glob("*.service"):
        assert unit.name in SCRIPT
        program = re.findall(r"^ExecStart=(\S+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(program) == 1
        assert (ROOT / program[0].lstrip("/")).is_file()
