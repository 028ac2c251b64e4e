"""scripts/dist: what is handed out for this machine's architecture, and that it is the same each time."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.version import VERSION
from firmware_bridge import maker, trust
from firmware_bridge.bundle import ROLES
from firmware_bridge.errors import WrongHardware
from firmware_bridge.keys import load_public, load_signer, make_key
from firmware_bridge.repository import DEFAULT_DAYS, Repository, RoleKeys
from router.config import TABLES

HOME = Path(__file__).parents[1]
PACKAGE, ROUTER = f"pile-agent_{VERSION}_amd64.deb", f"pile-router_{VERSION}_amd64.deb"
BUNDLE = f"pile-agent-{VERSION}-amd64.bundle"
PAYLOAD = f"pile-agent-{VERSION}-amd64.payload.zip"
WHEEL = f"pile_agent-{VERSION}-cp311-abi3-manylinux_2_17_x86_64.whl"
ABI = "cpython-311-x86_64-linux-gnu"
ABOUT_EXTENSIONS = ("test_codec_commands.py", "test_codec_errors.py", "test_codec_header.py", "test_codec_replies.py",
                    "test_rtu_frames.py")  # fmt: skip
UNTIMED = 'from hypothesis import settings\nsettings.register_profile("u", deadline=None)\nsettings.load_profile("u")\n'
NOW = datetime.now(UTC)
HERE = os.environ | {"PYTHONPATH": str(HOME)}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("dist"))


def made(out: Path, *options: str | Path) -> Path:
    done = run("--out", out, *options, "amd64")
    assert done.returncode == 0, done.stderr
    sizes = {name: int(size) for size, name in re.findall(r"^ *(\d+)  (.+)$", done.stdout, re.MULTILINE)}
    files = (file for file in out.rglob("*") if file.is_file() and file.name != "root.json")
    assert sizes == {file.name: file.stat().st_size for file in files}
    return out


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [HOME / "scripts" / "dist", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def deb(dist: Path, *options: str, package: str = PACKAGE) -> str:
    return subprocess.run(["dpkg-deb", *options, dist / package], capture_output=True, text=True, check=True).stdout


def payload_in(bundle: Path) -> bytes:
    with zipfile.ZipFile(bundle) as archive:
        (payload,) = (name for name in archive.namelist() if name.startswith("targets/"))
        return archive.read(payload)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A maker's folder: the last bundle, and the keys that a release takes. Those above them lie elsewhere."""
    folder, vault = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("vault")
    places = {"above": vault, "online": folder, "agent": folder}
    for name, place in places.items():
        make_key(place, name, None)
    who = dict.fromkeys(ROLES, "above") | {"agent": "agent", "snapshot": "online", "timestamp": "online"}
    public = {name: load_public(place / f"{name}.pub") for name, place in places.items()}
    repository = Repository({})
    repository.set_roles({role: RoleKeys((public[who[role]],), 1, DEFAULT_DAYS[role]) for role in ROLES}, NOW)
    repository.sign([load_signer(place / f"{name}.pem", None) for name, place in places.items()])
    maker.write_bundle(folder / "last.tuf.zip", repository, None)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("signed"), "--keys", keys, "--hardware", "KLC-120")


def test_the_same_tree_gives_the_same_bytes_but_for_what_is_signed(dist: Path, signed: Path) -> None:
    for name in (ROUTER, PAYLOAD, WHEEL):
        assert (signed / name).read_bytes() == (dist / name).read_bytes(), name
    root = [line for line in deb(signed, "-c").splitlines() if "/usr/share/pile-agent/" in line]
    assert [line.split()[-1] for line in root] == ["./usr/share/pile-agent/", "./usr/share/pile-agent/root.json"]
    assert deb(dist, "-c").splitlines() == [line for line in deb(signed, "-c").splitlines() if line not in root]


def test_a_pile_with_the_signed_package_installs_the_signed_bundle(signed: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", signed / PACKAGE, tmp_path / "pile"], check=True)
    root = maker.root_in(tmp_path / "pile/usr/share/pile-agent/root.json")
    assert offered(signed / BUNDLE, root, "KLC-120", tmp_path) == VERSION
    assert payload_in(signed / BUNDLE) == (signed / PAYLOAD).read_bytes()
    with pytest.raises(WrongHardware):
        offered(signed / BUNDLE, root, "KLC-60", tmp_path / "another")


@pytest.mark.usefixtures("signed")
def test_the_maker_s_last_bundle_has_moved_on(keys: Path) -> None:
    (release,) = maker.read_bundle(keys / "last.tuf.zip").releases("agent")
    assert (release.version, release.abi, release.hardware) == (VERSION, ABI, ("KLC-120",))
    assert maker.payload_in(keys / "last.tuf.zip") is None


def test_without_keys_the_bundle_is_good_for_tests_only(dist: Path, tmp_path: Path) -> None:
    assert [file.name for file in dist.glob("*.bundle")] == []
    bundle, root = dist / "for-tests-only" / BUNDLE, dist / "for-tests-only" / "root.json"
    assert offered(bundle, root.read_bytes(), "for-tests-only", tmp_path) == VERSION
    assert payload_in(bundle) == (dist / PAYLOAD).read_bytes()


def test_what_a_key_at_hand_cannot_sign_is_named_and_the_last_bundle_stays(
    dist: Path, keys: Path, tmp_path: Path
) -> None:
    before = (keys / "last.tuf.zip").read_bytes()
    for name in ("online.pem", "last.tuf.zip"):
        (tmp_path / name).write_bytes((keys / name).read_bytes())
    command = [sys.executable, HOME / "scripts/release_bundles.py", "--out", tmp_path, "--version", VERSION,
               "--hardware", "KLC-120", "--keys", tmp_path, f"{ABI}={dist / PAYLOAD}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HOME, env=HERE)
    assert re.fullmatch(r"not complete: agent \d needs 1 more of agent\nsign each with .*\n", done.stdout)
    assert (tmp_path / "last.tuf.zip").read_bytes() == before


def offered(bundle: Path, root: bytes, hardware: str, folder: Path) -> str:
    """The version that a pile fresh from the factory would install. Raises what a pile answers."""
    trust.install_root(folder / "trust", root)
    device = trust.Device((hardware,), ABI)
    return (
        trust.open_update(folder / "trust", folder / "scratch", bundle, device, datetime.now(UTC))
        .release(VERSION)
        .version
    )


def test_the_router_s_package_holds_the_router_what_it_imports_and_its_unit(dist: Path) -> None:
    listed = [line.split()[-1] for line in deb(dist, "-c", package=ROUTER).splitlines()]
    library = "./usr/lib/pile-router/"
    assert [name for name in listed if not name.startswith(library) and not name.endswith("/")] == [
        "./etc/pile-router/router.toml.example",
        "./usr/bin/pile-router",
        "./usr/lib/systemd/system/pile-router.service",
        "./usr/lib/sysusers.d/pile-router.conf",
        "./usr/lib/tmpfiles.d/pile-router.conf",
    ]
    inside = {name.removeprefix(library).split("/")[0].split("-")[0] for name in listed if name.startswith(library)}
    assert inside - {""} == {"__main__.py", "agent", "cext", "paho", "paho_mqtt", "pika", "pile_agent", "router"}
    assert f"{library}cext/message.{ABI}.so" in listed
    assert not [name for name in listed if "agent/loop" in name or "rtu" in name]


def test_the_router_runs_out_of_its_package_and_names_the_faults_of_its_example(dist: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", dist / ROUTER, tmp_path], check=True)
    example = tmp_path / "etc/pile-router/router.toml.example"
    command = [sys.executable, "-I", tmp_path / "usr/lib/pile-router", "check", "--config", example]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [
        f"{example}: input.password_file = '/etc/pile-router/password', expected a file with a password: "
        "No such file or directory"
    ]


def test_the_router_s_example_has_every_key_with_its_default() -> None:
    text = (HOME / "packaging/router/router.toml.example").read_text(encoding="utf-8")
    tables = tomllib.loads(re.sub(r"^# (\[|\w+ = )", r"\1", text, flags=re.MULTILINE))
    for name, known in TABLES.items():
        table = functools.reduce(lambda tree, key: tree[key], name.split("."), tables)
        assert {key: value for key, value in table.items() if not isinstance(value, dict)}.keys() == known.keys(), name
        for key in known.keys() - {"username", "password_file", "ca_file", "cert_file", "key_file"}:
            assert table[key] == known[key].default, f"{name}.{key}"


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
    assert [wheel.name for wheel in dist.glob("*.whl")] == [WHEEL]
    with zipfile.ZipFile(dist / WHEEL) as archive:
        names = archive.namelist()
    assert sorted(name for name in names if name.endswith((".so", ".c", ".pyx"))) == [
        "cext/message.abi3.so",
        "cext/rtu.abi3.so",
    ]


def test_what_is_compiled_for_every_python_passes_the_tests_of_codec_and_frames(dist: Path, tmp_path: Path) -> None:
    """The stable ABI has other functions than a pile's own Python: they are other extensions than the tree's."""
    with zipfile.ZipFile(dist / WHEEL) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "tests").mkdir()
    for name in ("codec_helpers.py", "rtu_helpers.py", *ABOUT_EXTENSIONS):
        shutil.copy(HOME / "tests" / name, tmp_path / "tests")
    where = tuple(str(tmp_path / "cext" / f"{name}.abi3.so") for name in ("message", "rtu"))
    (tmp_path / "tests/conftest.py").write_text(f"{UNTIMED}from cext import message, rtu\n"
                                                f"assert (message.__file__, rtu.__file__) == {where}\n")  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    here = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=here)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mips"], "dist: mips? expected amd64, arm64, armhf, or an option (this script begins with them)\n"),
        (["--keys", "."], "dist: which piles is it for? expected --hardware MODEL (make dist HARDWARE=MODEL)\n"),
        (["--keys", ".", "--hardware", "KLC-120"], "dist: {}/last.tuf.zip is missing: expected the last bundle, "
         "docs/operations/signing.md makes the first\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_at_once(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == words.format(tmp_path)
