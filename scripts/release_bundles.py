"""The bundles of a release for 113 and 114, one for each architecture, around payloads that are made already.

    release_bundles.py --out FOLDER --version VERSION --hardware MODEL... [--keys FOLDER] ABI=PAYLOAD.zip...

All of them carry the same metadata, so that each key signs once. ``--keys`` is the maker's folder: ``last.tuf.zip``,
the last bundle (docs/operations/signing.md), and the private keys that are at hand. Without it a key is made up and
forgotten, and FOLDER gets the ``root.json`` as well. Each bundle is verified as a pile does it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Signer

from firmware_bridge import maker, trust
from firmware_bridge.archive import StoredZip, sha256_of
from firmware_bridge.bundle import ROLES, Release
from firmware_bridge.errors import FirmwareError
from firmware_bridge.keys import is_encrypted, load_signer
from firmware_bridge.repository import DEFAULT_DAYS, MakerError, Repository, RoleKeys

LAST = "last.tuf.zip"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    now = datetime.now(UTC)
    try:
        if options.keys is None:
            return made_up(options, now)
        return signed(options, now)
    except (MakerError, FirmwareError, OSError) as error:
        print(f"release_bundles: {error}", file=sys.stderr)
        return 1


def made_up(options: argparse.Namespace, now: datetime) -> int:
    """With a key that nobody has afterwards."""
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields["name"] = "for-tests-only"
    repository = Repository({})
    repository.set_roles({role: RoleKeys((signer.public_key,), 1, DEFAULT_DAYS[role]) for role in ROLES}, now)
    verify(bundles(options, repository, [signer], now), repository, options)
    (options.out / "root.json").write_bytes(root(repository))
    return 0


def signed(options: argparse.Namespace, now: datetime) -> int:
    """With the maker's keys, as far as they are at hand; the last bundle moves on once nothing is missing."""
    last = options.keys / LAST
    if not last.exists():
        raise MakerError(f"{last} is missing: expected the last bundle, docs/operations/signing.md makes the first")
    repository = maker.read_bundle(last)
    repository.demand_signed()
    signers = [signer_of(path, options.passphrase_file) for path in sorted(options.keys.glob("*.pem"))]
    paths = bundles(options, repository, signers, now)
    missing = [one for one in repository.signings() if one.missing]
    for one in missing:
        print(f"not complete: {one.role} {one.version} needs {one.missing} more of {', '.join(one.unsigned)}")
    if missing:
        print(f"sign each with `pile-agent bundle sign`, verify it, and copy one of them to {last}")
        return 0
    verify(paths, repository, options)
    maker.write_bundle(last, repository, None)
    return 0


def bundles(
    options: argparse.Namespace, repository: Repository, signers: Sequence[Signer], now: datetime
) -> list[Path]:
    """All releases added and signed, and then one bundle written for each."""
    releases = [release_of(abi, path, options) for abi, path in options.payloads]
    for release in releases:
        repository.add_release(release, now)
    repository.sign(signers)
    return [
        bundle(options.out / path.name.replace(".payload.zip", ".bundle"), path, release, repository)
        for release, (_, path) in zip(releases, options.payloads, strict=True)
    ]


def release_of(abi: str, path: Path, options: argparse.Namespace) -> Release:
    with path.open("rb") as file, StoredZip.open(path) as payload:
        size = path.stat().st_size
        sha256, unpacked = sha256_of(file, 0, size), payload.unpacked
    name = f"agent/pile-agent-{options.version}-{abi}.zip"
    return Release(name, "agent", options.version, tuple(options.hardware), abi, size, sha256, unpacked)


def bundle(path: Path, payload: Path, release: Release, repository: Repository) -> Path:
    with payload.open("rb") as file:
        maker.write_bundle(path, repository, (f"{release.sha256}.{release.target.split('/')[1]}", file))
    return path


def verify(paths: Sequence[Path], repository: Repository, options: argparse.Namespace) -> None:
    """What a pile fresh from the factory does with each. Raises NotAuthentic and whatever else a pile answers."""
    for path, (abi, _) in zip(paths, options.payloads, strict=True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            trust.install_root(folder / "trust", root(repository))
            device = trust.Device(tuple(options.hardware), abi)
            update = trust.open_update(folder / "trust", folder / "scratch", path, device, datetime.now(UTC))
            update.release(options.version)
            update.unpack_to(folder / "release")
        print(f"{path}: a pile would install it")


def root(repository: Repository) -> bytes:
    """The newest."""
    return repository.files()[f"{repository.root.version}.root.json"]


def signer_of(path: Path, passphrase_file: Path | None) -> Signer:
    if not is_encrypted(path):
        return load_signer(path, None)
    if passphrase_file is not None:
        return load_signer(path, passphrase_file.read_bytes().split(b"\n")[0])
    return load_signer(path, getpass(f"passphrase of {path.name}: ").encode())


def _payload(text: str) -> tuple[str, Path]:
    abi, _, path = text.partition("=")
    return abi, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="release_bundles")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--hardware", action="append", required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--passphrase-file", type=Path)
    parser.add_argument("payloads", type=_payload, nargs="+")
    return parser


if __name__ == "__main__":
    sys.exit(main())
