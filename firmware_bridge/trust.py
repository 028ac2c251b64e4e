"""Whether a file may be installed: what a pile believes, and the one verifier that everything passes.

What a pile believes stands in one file, ``<trust>/trusted.tuf.zip``: TUF metadata, first only the root that the factory
put there. :func:`open_update` verifies a carrier against it in a scratch folder and changes nothing in ``<trust>``; the
versions move on with :func:`promote` alone, which belongs to COMMITTED. A file comes as one of three carriers:

1. the file is the bundle: metadata and payload in one stored zip (:mod:`firmware_bridge.bundle`)
2. a raw image, with its metadata (a bundle without payload) in a file beside it, ``<path>.tuf.zip``
3. a raw image whose SHA-256 the metadata that is trusted already names

docs/adr/0014-firmware-trust.md says why it is done like this.
"""

import hashlib
import io
import json
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from firmware_bridge import durable
from firmware_bridge.archive import PLAIN, BadArchive, StoredZip, chunks, pack, sha256_of
from firmware_bridge.bundle import (
    ISSUED,
    KINDS,
    METADATA,
    MOST_METADATA,
    Release,
    issued_at,
    payload_of,
    read_metadata,
    release_of,
)
from firmware_bridge.errors import NotAuthentic, VersionRefused, WrongHardware

TRUSTED = "trusted.tuf.zip"
ROOT = "root.json"


@dataclass(frozen=True, slots=True)
class Device:
    """What this pile is: the hardware names it answers to (pile model, board models), and :func:`this_abi`."""

    hardware: tuple[str, ...]
    abi: str


def this_abi() -> str:
    """The interpreter and machine that a release of the agent must be built for: ``cpython-311-x86_64-linux-gnu``."""
    return str(sysconfig.get_config_var("SOABI"))  # the interpreter's: uname tells the kernel's, which may be wider


class Catalogue:
    """What the verified metadata name. ``faults``: why one kind's are missing."""

    def __init__(self, targets: Mapping[str, TargetFile], faults: tuple[str, ...]) -> None:
        self._targets = targets
        self.faults = faults

    def by_hash(self, sha256: str) -> Release | None:
        """Raises NotAuthentic if what is signed of it makes no sense."""
        return next((_release(one) for one in self._targets.values() if one.hashes.get("sha256") == sha256), None)

    def ordered(self, version: str, device: Device) -> Release | None:
        """What ``version`` is for ``device``: the size and hash to download by, before there is a file to check."""
        releases = [_release(one) for one in self._targets.values()]
        return next((one for one in releases if one.version == version and not _misfit(one, device)), None)


class Update:
    """A verified payload. The carrier's file must not change meanwhile: who does not own it alone copies it first."""

    def __init__(self, path: Path, start: int, release: Release, device: Device) -> None:
        self._path = path
        self._start = start
        self._release = release
        self._device = device

    def release(self, version: str) -> Release:
        """What may be installed, if it is ``version`` (114's) and for this device.

        Raises WrongHardware (hardware, abi), VersionRefused (the signed version is another).
        """
        misfit = _misfit(self._release, self._device)
        if misfit:
            raise WrongHardware(f"{self._release.target}: {misfit}")
        if self._release.version != version:
            raise VersionRefused(f"ordered is version {version!r}, signed is {self._release.version!r}")
        return self._release

    def copy_to(self, path: Path) -> None:
        """The payload as a file, durable, replacing ``path``; checked once more meanwhile. Raises NotAuthentic."""
        fresh = path.with_name(f".{path.name}.new")
        digest = hashlib.sha256()
        with self._path.open("rb") as source, fresh.open("wb", buffering=0) as copy:
            for chunk in chunks(source, self._start, self._release.size):
                digest.update(chunk)
                copy.write(chunk)
            durable.sync(copy.fileno())
        if digest.hexdigest() != self._release.sha256:
            fresh.unlink()
            raise NotAuthentic(f"{self._path.name} has changed since it was verified")
        durable.rename(fresh, path)

    def unpack_to(self, folder: Path) -> None:
        """Unpack an agent's release into ``folder``, which must not exist: every file and folder in it is durable
        when this returns; ``folder``'s own name in its parent is not. Raises NotAuthentic."""
        with self._path.open("rb") as file:
            payload = StoredZip(file, self._start, self._release.size)
            if payload.unpacked != self._release.unpacked:
                raise NotAuthentic(f"{payload.unpacked} bytes to unpack, signed are {self._release.unpacked}")
            payload.unpack_to(folder)


def open_update(
    trust: Path, scratch: Path, carrier: Path, device: Device, now: datetime, metadata: Path | None = None
) -> Update:
    """Verify ``carrier`` (a bundle or a raw image; ``metadata`` is the file beside it, if there is one) at ``now``
    (aware; a clock that stands before what is trusted was signed is moved up to it).

    ``scratch`` is emptied first, and holds afterwards what :func:`promote` needs: keep it until COMMITTED, or remove
    it. Nothing in ``trust`` changes. Raises NotAuthentic; OSError if a file can't be read or scratch not be written.
    """
    trusted = _trusted(trust)
    found = _look_into(carrier, metadata)
    remote = trusted if found.metadata is None else found.metadata
    try:
        catalogue = _verify(trusted, remote, scratch, now)
        release = _signed_payload(catalogue, carrier, found)
    except NotAuthentic as error:
        raise NotAuthentic(f"{found.what}: {error}") from error
    return Update(carrier, found.start, release, device)


def open_catalogue(trust: Path, scratch: Path, now: datetime, metadata: Path | None) -> Catalogue:
    """Verify the metadata alone, before the raw image they are for is there; None: those that are trusted already.

    Otherwise like :func:`open_update`. Nothing in ``trust`` changes.
    """
    trusted = _trusted(trust)
    return _verify(trusted, trusted if metadata is None else _metadata_in(metadata), scratch, now)


def promote(trust: Path, scratch: Path) -> None:
    """Believe from now on what :func:`open_update` left in ``scratch``: durable, as a whole or not at all, and doing it
    again changes nothing. What is trusted already stays if it is newer. Raises NotAuthentic, OSError."""
    proved = _metadata_in(scratch / TRUSTED)
    if _age(proved) >= _age(_trusted(trust)):
        durable.write_file(trust / TRUSTED, _packed(proved))


def install_root(trust: Path, root: bytes) -> None:
    """The factory's: believe this root metadata (``root.json``) in a ``trust`` that believes nothing yet.

    The same root again is fine. Raises NotAuthentic (not signed as it demands itself, or another one is trusted).
    """
    fresh = _packed({ROOT: root})
    path = trust / TRUSTED
    if path.exists():
        if path.read_bytes() != fresh:
            raise NotAuthentic(f"{trust} trusts another root already, or has moved on from this one")
        return
    try:
        _check_root(root)
    except (RepositoryError, ValueError) as error:
        raise NotAuthentic(f"the root to install: {error}") from error
    trust.mkdir(parents=True, exist_ok=True)
    durable.sync_folder(trust.parent)
    durable.write_file(path, fresh)


# ---- python-tuf ----


class _Client(Updater):
    """python-tuf's client workflow, at a time of our choosing. It asks the system's clock, without an argument for
    another time, and has no name for the metadata it has verified: both are in ``_trusted_set``, and tests watch it."""

    def __init__(self, folder: Path, root: bytes, remote: Mapping[str, bytes], now: datetime) -> None:
        config = UpdaterConfig(
            root_max_length=MOST_METADATA,
            timestamp_max_length=MOST_METADATA,
            snapshot_max_length=MOST_METADATA,
            targets_max_length=MOST_METADATA,
        )
        super().__init__(str(folder), METADATA, fetcher=_Fetcher(remote), config=config, bootstrap=root)
        self._trusted_set.reference_time = now

    def verified(self) -> tuple[str, ...]:
        return tuple(
            role for role in (Timestamp.type, Snapshot.type, Targets.type, *KINDS) if role in self._trusted_set
        )

    def targets_of(self, role: str) -> dict[str, TargetFile]:
        """Of a delegated role, only those under names that were delegated to it."""
        self.get_targetinfo(f"{role}/")  # loads and verifies the role, whatever it names
        metadata = self._trusted_set.get(role)
        targets = metadata.targets if isinstance(metadata, Targets) else {}
        return {name: one for name, one in targets.items() if self.get_targetinfo(name) is one}


class _Fetcher(FetcherInterface):
    """The metadata of a bundle, as if they were on a server."""

    def __init__(self, remote: Mapping[str, bytes]) -> None:
        self._remote = remote

    def _fetch(self, url: str) -> Iterator[bytes]:
        file = unquote(url.removeprefix(f"{METADATA}/"))
        if file not in self._remote:
            raise DownloadHTTPError(f"it has no {file}", 404)
        return iter((self._remote[file],))


def _verify(trusted: Mapping[str, bytes], remote: Mapping[str, bytes], scratch: Path, now: datetime) -> Catalogue:
    """Run the client workflow from ``trusted`` to ``remote``; what is trusted then stands in ``scratch``, packed."""
    work = _fill(scratch, trusted)
    at = _time(trusted, remote, now)
    try:
        client = _Client(work, trusted[ROOT], remote, at)
        client.refresh()
        targets, faults = _targets(client)
    except ExpiredMetadataError as error:
        raise NotAuthentic(f"{error}: it is {at:%Y-%m-%d %H:%M:%S} UTC") from error
    except (RepositoryError, DownloadError) as error:
        raise NotAuthentic(str(error)) from error
    files = {f"{role}.json": (work / f"{role}.json").read_bytes() for role in ("root", *client.verified())}
    durable.write_file(scratch / TRUSTED, _packed(files))
    shutil.rmtree(work)
    return Catalogue(targets, tuple(faults))


def _time(trusted: Mapping[str, bytes], remote: Mapping[str, bytes], now: datetime) -> datetime:
    """What time it is at least: a board without a battery comes up in 1970, where nothing has expired.

    A new root begins anew, as for the versions: or metadata from a clock in the future would lock the pile for ever.
    """
    root = _signed(trusted[ROOT])
    if f"{root['version'] + 1}.root.json" in remote:
        return now
    known = (issued_at(signed.get(ISSUED)) for signed in (root, _signed(trusted.get("timestamp.json"))))
    return max([now, *(at for at in known if at is not None)])


def _targets(client: _Client) -> tuple[dict[str, TargetFile], list[str]]:
    """What each kind's metadata name. That one kind's have expired does not keep the other's from being used."""
    targets: dict[str, TargetFile] = {}
    faults = []
    for kind in KINDS:
        try:
            targets |= client.targets_of(kind)
        except (RepositoryError, DownloadError) as error:
            faults.append(f"{kind}.json: {error}")
    return targets, faults


def _fill(scratch: Path, trusted: Mapping[str, bytes]) -> Path:
    """A fresh folder in ``scratch`` in the form that python-tuf keeps; its root is an argument."""
    shutil.rmtree(scratch, ignore_errors=True)
    work = scratch / "work"
    work.mkdir(parents=True, mode=0o700)
    for file, data in trusted.items():
        if file != ROOT:
            (work / file).write_bytes(data)
    return work


def _check_root(root: bytes) -> None:
    """It must be signed by as many of its own keys as it demands."""
    metadata = Metadata[Root].from_bytes(root)
    if metadata.signed.type != Root.type:
        raise ValueError(f"type {metadata.signed.type!r}, expected 'root'")
    metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)


# ---- carriers ----


@dataclass(frozen=True, slots=True)
class _Found:
    """Where the payload's bytes are, and the metadata that came with it, if any did; ``what`` it is, in words."""

    start: int
    size: int
    metadata: dict[str, bytes] | None
    what: str


def _look_into(carrier: Path, metadata: Path | None) -> _Found:
    size = carrier.stat().st_size
    if metadata is not None:
        return _Found(0, size, _metadata_in(metadata), metadata.name)
    try:
        with StoredZip.open(carrier) as bundle:
            found = read_metadata(bundle)
            if found:
                payload = payload_of(bundle)
                return _Found(payload.start, payload.size, found, carrier.name)
            why = "it holds no metadata"
    except BadArchive as error:
        why = str(error)
    return _Found(0, size, None, f"{carrier.name} is no bundle ({why}), nor an image of those that are trusted")


def _signed_payload(catalogue: Catalogue, carrier: Path, found: _Found) -> Release:
    with carrier.open("rb") as file:
        sha256 = sha256_of(file, found.start, found.size)
    release = catalogue.by_hash(sha256)
    if release is None or release.size != found.size:
        faults = "; ".join(catalogue.faults) or "all metadata are good"
        raise NotAuthentic(f"nobody signed {found.size} bytes with SHA-256 {sha256}; {faults}")
    return release


def _metadata_in(path: Path) -> dict[str, bytes]:
    with StoredZip.open(path) as archive:
        return read_metadata(archive)


# ---- what is trusted ----


def _trusted(trust: Path) -> dict[str, bytes]:
    path = trust / TRUSTED
    if not path.exists():
        raise NotAuthentic(f"{path} is missing: the factory's root was never installed")
    try:
        metadata = _metadata_in(path)
    except BadArchive as error:
        raise NotAuthentic(f"{path} is damaged: {error}") from error
    if ROOT not in metadata:
        raise NotAuthentic(f"{path} holds no {ROOT}")
    return metadata


def _packed(metadata: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    pack(file, [(f"{METADATA}/{name}", PLAIN, metadata[name]) for name in sorted(metadata)])
    return file.getvalue()


def _age(metadata: Mapping[str, bytes]) -> tuple[int, int]:
    """Versions of root and timestamp: a new root may begin the timestamps anew, after a fast-forward."""
    root, timestamp = (_signed(metadata.get(file)) for file in (ROOT, "timestamp.json"))
    return int(root["version"]), int(timestamp.get("version", 0))


def _signed(metadata: bytes | None) -> dict[str, Any]:
    """The signed part of metadata that were verified before."""
    signed: dict[str, Any] = json.loads(metadata)["signed"] if metadata else {}
    return signed


# ---- what fits ----


def _release(target: TargetFile) -> Release:
    return release_of(target.path, target.length, target.hashes, target.custom)


def _misfit(release: Release, device: Device) -> str:
    """Why ``release`` is not for ``device``, in words; empty if it is."""
    if not set(release.hardware) & set(device.hardware):
        return f"it is for {', '.join(release.hardware)}; this is {', '.join(device.hardware)}"
    if release.kind == "agent" and release.abi != device.abi:
        return f"it is for {release.abi}; this is {device.abi}"
    return ""
