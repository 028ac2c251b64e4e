"""``pile-agent bundle``: the maker's keys, bundles and signatures, and the pile's own verdict on them."""

import argparse
import getpass
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from agent.cli.exits import FAILED, OK
from firmware_bridge import maker, trust
from firmware_bridge.archive import sha256_of
from firmware_bridge.bundle import KINDS, VERSION, Kind, Release
from firmware_bridge.errors import FirmwareError
from firmware_bridge.repository import MakerError, Repository, Signing


def run(verb: str, options: argparse.Namespace) -> int:
    """Do ``verb``; what can't be done is said in one line."""
    works: dict[str, Callable[[argparse.Namespace], int]] = {
        "keygen": keygen,
        "make": make,
        "sign": sign,
        "inspect": inspect,
        "verify": verify,
        "install_root": install_root,
    }
    try:
        return works[verb](options)
    except (MakerError, FirmwareError, OSError) as error:
        print(error, file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"{error}: pip install 'pile-agent[maker]'", file=sys.stderr)
    return FAILED


def keygen(options: argparse.Namespace) -> int:
    from firmware_bridge.keys import make_key

    for name in options.names:
        passphrase = None if options.no_passphrase else _new_passphrase(options.passphrase_file, name)
        for path in make_key(options.folder, name, passphrase):
            print(path)
    return OK


def make(options: argparse.Namespace) -> int:
    repository = Repository({}) if options.last is None else maker.read_bundle(options.last)
    repository.demand_signed()
    now = datetime.now(UTC)
    with tempfile.TemporaryFile() as file:
        name = _make(repository, options, file, now)
        _sign(repository, options)
        file.seek(0)
        maker.write_bundle(options.out, repository, None if name is None or options.beside else (name, file))
    return _report(options.out, repository)


def _make(repository: Repository, options: argparse.Namespace, file: BinaryIO, now: datetime) -> str | None:
    """Change the metadata as asked; the payload goes to ``file``, its name in the bundle comes back."""
    if options.roles is not None:
        repository.set_roles(maker.read_roles(options.roles), now)
        return None
    if options.payload is None and options.image is None:
        repository.renew(options.renew, now)
        return maker.copy_payload(options.last, file)
    release = _release(options, file)
    repository.add_release(release, now, options.keep)
    return f"{release.sha256}.{release.target.split('/')[1]}"


def _release(options: argparse.Namespace, file: BinaryIO) -> Release:
    """What is said of the payload, which goes to ``file``."""
    if not VERSION.fullmatch(options.version or "") or not options.hardware:
        raise MakerError("a release needs --version (letters, digits, ._+~-) and --hardware")
    kind: Kind = "agent" if options.payload is not None else "power-board"
    if kind == "agent":
        abi = options.abi or trust.this_abi()
        name = f"pile-agent-{options.version}-{abi}.zip"
        unpacked = maker.write_payload(options.payload, file)
    else:
        abi, name = "", options.image.name
        unpacked = file.write(options.image.read_bytes())
    size = file.seek(0, os.SEEK_END)
    sha256 = sha256_of(file, 0, size)
    return Release(f"{kind}/{name}", kind, options.version, tuple(options.hardware), abi, size, sha256, unpacked)


def sign(options: argparse.Namespace) -> int:
    if not options.keys:
        raise MakerError("sign with what? expected --key")
    repository = maker.read_bundle(options.bundle)
    if not _sign(repository, options):
        print("nothing is missing that these keys could sign")
    with tempfile.TemporaryFile() as file:
        name = maker.copy_payload(options.bundle, file)
        file.seek(0)
        maker.write_bundle(options.bundle, repository, None if name is None else (name, file))
    return _report(options.bundle, repository)


def inspect(options: argparse.Namespace) -> int:
    repository = maker.read_bundle(options.bundle)
    for one in repository.signings():
        print(f"{one.role} {one.version}: until {one.expires:%Y-%m-%d %H:%M:%S} UTC, {_signed(one)}")
    for kind in KINDS:
        for release in repository.releases(kind):
            _print_release(release)
    payload = maker.payload_in(options.bundle)
    print(f"payload: {payload.name}, {payload.size} bytes" if payload else "no payload")
    return _report(options.bundle, repository)


def verify(options: argparse.Namespace) -> int:
    device = trust.Device(tuple(options.hardware), options.abi or trust.this_abi())
    now = options.at or datetime.now(UTC)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trusted = options.trust or _factory(folder / "trust", options.root)
        update = trust.open_update(trusted, folder / "scratch", options.carrier, device, now, options.metadata)
        release = update.release(options.version)
        if release.kind == "agent":
            update.unpack_to(folder / "release")
    _print_release(release)
    print(f"{options.carrier}: a pile would install it")
    return OK


def install_root(options: argparse.Namespace) -> int:
    trust.install_root(options.trust, maker.root_in(options.root))
    print(f"{options.trust} trusts the root of {options.root}")
    return OK


def _factory(folder: Path, root: Path) -> Path:
    """What a pile trusts that comes from the factory with ``root``."""
    trust.install_root(folder, maker.root_in(root))
    return folder


def _sign(repository: Repository, options: argparse.Namespace) -> list[str]:
    """Sign with the keys given; what was signed, told as well."""
    signed = []
    if options.keys:
        from firmware_bridge.keys import is_encrypted, load_signer

        for path in options.keys:
            passphrase = _passphrase(options.passphrase_file, path.name) if is_encrypted(path) else None
            signed += repository.sign([load_signer(path, passphrase)])
    print("\n".join(signed), end="\n" if signed else "")
    return signed


def _report(path: Path, repository: Repository) -> int:
    missing = [one for one in repository.signings() if one.missing]
    for one in missing:
        print(f"missing: {one.role} {one.version} needs {one.missing} more of {', '.join(one.unsigned)}")
    print(f"{path}: {'not complete' if missing else 'complete'}")
    return OK


def _signed(one: Signing) -> str:
    return f"signed by {', '.join(one.signed)}" if one.signed else "not signed"


def _print_release(release: Release) -> None:
    where = f" on {release.abi}" if release.abi else ""
    print(f"{release.target}: version {release.version} for {', '.join(release.hardware)}{where}")
    print(f"  {release.size} bytes, {release.unpacked} unpacked, SHA-256 {release.sha256}")


def _new_passphrase(file: Path | None, name: str) -> bytes:
    passphrase = _passphrase(file, name)
    if file is None and _passphrase(None, f"{name}, again") != passphrase:
        raise MakerError("the two passphrases differ")
    if not passphrase:
        raise MakerError("an empty passphrase: expected one, or --no-passphrase")
    return passphrase


def _passphrase(file: Path | None, name: str) -> bytes:
    if file is not None:
        return file.read_bytes().split(b"\n")[0]
    return getpass.getpass(f"passphrase of {name}: ").encode()
