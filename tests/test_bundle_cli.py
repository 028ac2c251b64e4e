"""``pile-agent bundle`` as a program: what it prints, refuses, and with which exit code."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from trust_helpers import KEYS, House, parts

from agent.cli.exits import FAILED, OK, USAGE
from firmware_bridge.archive import PROGRAM, StoredZip
from firmware_bridge.trust import this_abi

PROGRAM_NAME = [sys.executable, "-m", "agent.cli.main", "bundle"]
WITHOUT_CRYPTOGRAPHY = (
    "import sys; sys.modules['cryptography'] = None; from agent.cli.main import main; sys.exit(main())"
)
ROLES = """\
[root]
keys = ["root-1.pub", "root-2.pub"]
[targets]
keys = ["all.pub"]
[snapshot]
keys = ["all.pub"]
[timestamp]
keys = ["all.pub"]
[agent]
keys = ["all.pub"]
[power-board]
keys = ["all.pub"]
"""


class Desk:
    """A folder with keys, roles and a payload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "roles.toml").write_text(ROLES)
        (folder / "app").mkdir()
        (folder / "app" / "__main__.py").write_text("print(1)\n")
        self.run("keygen", ".", "root-1", "root-2", "all", "other", "--no-passphrase")

    def run(self, *arguments: str, code: int = OK, program: tuple[str, ...] = ()) -> str:
        """What it says, on whichever stream."""
        command = [*(program or PROGRAM_NAME), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | {"PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def first(self) -> None:
        keys = [f"--key={name}.pem" for name in ("root-1", "root-2", "all")]
        self.run("make", "--roles", "roles.toml", "--out", "first", *keys)

    def agent(self, *arguments: str, code: int = OK) -> str:
        options = ("--payload", "app", "--hardware", "KLC-120", "--key", "all.pem")
        return self.run("make", "--from", "first", *options, *arguments, code=code)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_from_keys_to_a_verdict(desk: Desk) -> None:
    desk.first()

    assert "agent 2: signed by all" in desk.agent("--version", "1.2.3", "--out", "agent.bundle")
    lines = desk.run("inspect", "agent.bundle").splitlines()
    assert lines[0].startswith("root 1: until 20")
    assert lines[0].endswith("signed by root-1, root-2")
    assert f"agent/pile-agent-1.2.3-{this_abi()}.zip: version 1.2.3 for KLC-120 on {this_abi()}" in lines
    assert lines[-1] == "agent.bundle: complete"
    verify = ("verify", "agent.bundle", "--root", "first", "--hardware", "KLC-120")
    assert desk.run(*verify, "--version", "1.2.3").endswith("agent.bundle: a pile would install it\n")
    said = desk.run(*verify, "--version", "1.2.4", code=FAILED)
    assert said == "ordered is version '1.2.4', signed is '1.2.3'\n"
    assert "is expired: it is 2050-01-01 00:00:00 UTC" in desk.run(
        *verify, "--version", "1.2.3", "--at", "2050-01-01", code=FAILED
    )


def test_without_cryptography_a_bundle_is_inspected_and_verified_but_not_signed(desk: Desk) -> None:
    desk.first()
    desk.agent("--version", "1.2.3", "--out", "agent.bundle")
    bare = (sys.executable, "-c", WITHOUT_CRYPTOGRAPHY, "bundle")

    assert desk.run("inspect", "agent.bundle", program=bare) == desk.run("inspect", "agent.bundle")
    verify = ("verify", "agent.bundle", "--root", "first", "--version", "1.2.3", "--hardware", "KLC-120")
    assert desk.run(*verify, program=bare) == desk.run(*verify)
    said = desk.run("sign", "agent.bundle", "--key", "all.pem", program=bare, code=FAILED)
    assert "pip install 'pile-agent[maker]'" in said
    assert "pip install 'pile-agent[maker]'" in desk.run("keygen", ".", "new", program=bare, code=FAILED)


def test_what_is_not_signed_is_verified_by_nobody(desk: Desk) -> None:
    desk.first()
    desk.run("make", "--from", "first", "--payload=app", "--version=1", "--hardware=KLC-120", "--out", "bare")

    assert "missing: agent 2 needs 1 more of all" in desk.run("inspect", "bare")
    said = desk.run("verify", "bare", "--root", "first", "--version", "1", "--hardware", "KLC-120", code=FAILED)
    assert said == "bare: timestamp was signed by 0/1 keys\n"
    said = desk.run("make", "--from", "bare", "--out", "next", code=FAILED)
    assert said == "signatures are missing of timestamp 2, snapshot 2, agent 2: sign it first\n"


def test_a_signature_is_given_once_and_only_where_it_is_missing(desk: Desk) -> None:
    desk.first()
    before = (desk.folder / "first").read_bytes()

    assert "nothing is missing that these keys could sign" in desk.run("sign", "first", "--key", "root-1.pem")
    assert (desk.folder / "first").read_bytes() == before
    said = desk.run("sign", "first", "--key", "other.pem", code=FAILED)
    assert "signs nothing here: no role names it" in said


def test_a_refreshed_bundle_keeps_its_payload(desk: Desk) -> None:
    desk.first()
    desk.agent("--version", "1.2.3", "--out", "agent.bundle")

    desk.run("make", "--from", "agent.bundle", "--out", "fresh.bundle", "--key", "all.pem")

    old, new = parts(desk.folder / "agent.bundle"), parts(desk.folder / "fresh.bundle")
    changed = {name for name in old if old[name] != new[name]}
    assert changed == {"metadata/snapshot.json", "metadata/timestamp.json"}


def test_the_same_folder_is_the_same_payload(desk: Desk) -> None:
    desk.first()
    (desk.folder / "app" / "tool").write_text("#!/bin/sh\n")
    (desk.folder / "app" / "tool").chmod(0o700)
    desk.agent("--version", "1.2.3", "--out", "one")
    os.utime(desk.folder / "app" / "__main__.py", (0, 0))
    desk.agent("--version", "1.2.3", "--out", "two")

    payload = next(name for name in parts(desk.folder / "one") if name.startswith("targets/"))
    assert payload in parts(desk.folder / "two")
    (desk.folder / "payload").write_bytes(parts(desk.folder / "one")[payload])
    with StoredZip.open(desk.folder / "payload") as archive:
        assert archive.names == ("__main__.py", "tool")
        assert archive.entry("tool").mode == PROGRAM


def test_what_can_not_be_made_is_said(desk: Desk) -> None:
    desk.first()
    (desk.folder / "empty").mkdir()
    (desk.folder / "linked").mkdir()
    (desk.folder / "linked" / "__main__.py").write_text("")
    (desk.folder / "linked" / "data").symlink_to("/etc/passwd")
    out = ("--out", "x")

    assert "a release needs --version" in desk.agent("--version", "../1", *out, code=FAILED)
    assert "a release needs --version" in desk.agent(*out, code=FAILED)
    make = ("make", "--from", "first", "--version", "1", "--hardware", "A", *out)
    assert "has no __main__.py" in desk.run(*make, "--payload", "empty", code=FAILED)
    assert "linked/data is no plain file" in desk.run(*make, "--payload", "linked", code=FAILED)
    assert "No such file" in desk.run(*make, "--image", "missing.bin", code=FAILED)
    assert "there is no root yet" in desk.run("make", *out, code=FAILED)
    assert "role 'boss', expected one of root, targets" in desk.run(
        "make", "--from", "first", "--renew", "boss", *out, code=FAILED
    )
    assert "the last 22 bytes" in desk.run("make", "--from", "roles.toml", *out, code=FAILED)
    desk.run("make", "--image", "a", "--payload", "b", *out, code=USAGE)
    assert "sign with what?" in desk.run("sign", "first", code=FAILED)
    assert not (desk.folder / "x").exists()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[agent]", "[agents]", "tables ['agents', 'power-board', 'root', 'snapshot', 'targets', "),
        ('keys = ["root-1.pub", "root-2.pub"]', "", "[root] without keys, expected keys, threshold, days"),
        ("[agent]", "[agent]\nkey = 1", "[agent] ['key'], expected keys, threshold, days"),
        ("[root]", "[root]\nthreshold = 3", "[root] threshold = 3, expected 1 to 2"),
        ("[root]", "[root]\nthreshold = 0", "[root] threshold = 0, expected 1 to 2"),
        ("[agent]", "[agent]\nthreshold = true", "[agent] threshold = True, expected 1 to 1"),
        ("[agent]", "[agent]\ndays = 0", "[agent] days = 0, expected 1 to 36500"),
        ("root-1.pub", "root-1.pem", "root-1.pem: no public key in PEM"),
        ("root-1.pub", "root-9.pub", "root-9.pub"),
        ("[root]", "[root", "roles.toml: "),
    ],
)  # fmt: skip
def test_roles_that_make_no_sense_are_named(desk: Desk, before: str, after: str, words: str) -> None:
    (desk.folder / "roles.toml").write_text(ROLES.replace(before, after, 1))

    assert words in desk.run("make", "--roles", "roles.toml", "--out", "x", code=FAILED)


def test_a_key_is_never_replaced(desk: Desk) -> None:
    before = (desk.folder / "root-1.pem").read_bytes()

    said = desk.run("keygen", ".", "root-1", "--no-passphrase", code=FAILED)

    assert said == "root-1.pem is there already: a key is never replaced, choose another name\n"
    assert (desk.folder / "root-1.pem").read_bytes() == before


def test_a_passphrase_is_asked_for_twice_and_never_shown(desk: Desk) -> None:
    said, code = at_terminal(desk, ["keygen", ".", "secret"], ["open sesame", "open sesame"])
    assert code == OK
    assert "passphrase of secret: " in said
    assert "open sesame" not in said
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (desk.folder / "secret.pem").read_bytes()

    said, code = at_terminal(desk, ["keygen", ".", "typo"], ["open sesame", "open seasame"])
    assert code == FAILED
    assert "the two passphrases differ" in said
    assert not (desk.folder / "typo.pem").exists()


def test_a_wrong_passphrase_is_said(desk: Desk) -> None:
    (desk.folder / "right").write_text("open sesame\n")
    (desk.folder / "wrong").write_text("open barley\n")
    (desk.folder / "none").write_text("\n")
    desk.run("keygen", ".", "secret", "--passphrase-file", "right")
    (desk.folder / "roles.toml").write_text(ROLES.replace("all.pub", "secret.pub"))
    make = ("make", "--roles", "roles.toml", "--out", "x", "--key", "secret.pem", "--passphrase-file")

    assert "secret.pem: no private key in PEM, or another passphrase" in desk.run(*make, "wrong", code=FAILED)
    assert "an empty passphrase" in desk.run("keygen", ".", "new", "--passphrase-file", "none", code=FAILED)
    assert "targets 1: signed by secret" in desk.run(*make, "right")


def test_the_factorys_root_is_installed_from_a_bundle(desk: Desk) -> None:
    desk.first()

    assert desk.run("install-root", "first", "--trust", "pile/trust") == "pile/trust trusts the root of first\n"
    desk.agent("--version", "1.2.3", "--out", "agent.bundle")
    desk.run("verify", "agent.bundle", "--trust", "pile/trust", "--version", "1.2.3", "--hardware", "KLC-120")
    (desk.folder / "other").write_bytes(House().root())
    assert "trusts another root already" in desk.run("install-root", "other", "--trust", "pile/trust", code=FAILED)
    assert len(KEYS) > 3


def at_terminal(desk: Desk, arguments: list[str], lines: list[str]) -> tuple[str, int]:
    """What a terminal shows while ``lines`` are typed, each when it is asked for."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = os.getcwd()
        os.chdir(desk.folder)
        os.execv(PROGRAM_NAME[0], [*PROGRAM_NAME, *arguments])
    said = b""
    for line in lines:
        while not said.endswith(b": "):
            said += os.read(fd, 1024)
        os.write(fd, f"{line}\n".encode())
        said += b"\n"
    while piece := _rest(fd):
        said += piece
    os.close(fd)
    return said.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _rest(fd: int) -> bytes:
    try:
        return os.read(fd, 1024)
    except OSError:  # EIO: the program has ended
        return b""
