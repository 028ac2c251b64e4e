"""A maker with all keys in hand, and a pile that trusts it: what the tests of trust take apart."""

import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from firmware_bridge import maker, trust
from firmware_bridge.archive import PLAIN, StoredZip, pack, sha256_of
from firmware_bridge.bundle import KINDS, METADATA, PAYLOAD, Kind, Release, read_metadata
from firmware_bridge.repository import DEFAULT_DAYS, Repository, RoleKeys

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ABI = trust.this_abi()
DEVICE = trust.Device(("KLC-120", "PB-1"), ABI)
PLAN = {
    "root": ("root-1", "root-2", "root-3"),
    "targets": ("targets",),
    "snapshot": ("online",),
    "timestamp": ("online",),
    "agent": ("agent",),
    "power-board": ("power-board",),
}
KEYS = {name: CryptoSigner.generate_ed25519() for name in (
    "root-1", "root-2", "root-3", "root-4", "root-5", "targets", "online", "online-2", "agent", "power-board",
    "foreign-root-1", "foreign-root-2", "foreign-root-3", "foreign-targets", "foreign-online", "foreign-agent",
    "foreign-power-board",
)}  # fmt: skip
for _name, _signer in KEYS.items():
    _signer.public_key.unrecognized_fields["name"] = _name
FOREIGN = {role: tuple(f"foreign-{name}" for name in names) for role, names in PLAN.items()}


def roles(plan: Mapping[str, tuple[str, ...]] = PLAN, **thresholds: int) -> dict[str, RoleKeys]:
    """Two of the root keys, one of each other role's, unless said otherwise."""
    needed = {role: min(2, len(names)) if role == "root" else 1 for role, names in plan.items()} | thresholds
    return {
        role: RoleKeys(tuple(KEYS[name].public_key for name in names), needed[role], DEFAULT_DAYS[role])
        for role, names in plan.items()
    }


def names_in(plan: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {name for names in plan.values() for name in names}


class House:
    """A maker, and its last bundle's metadata."""

    def __init__(self, plan: Mapping[str, tuple[str, ...]] = PLAN, now: datetime = NOW, **thresholds: int) -> None:
        self.repository = Repository({})
        self.repository.set_roles(roles(plan, **thresholds), now)
        self.keys = names_in(plan)
        self.sign()

    def sign(self, *names: str) -> None:
        """With all keys of today's roles, if none are named."""
        self.repository.sign([KEYS[name] for name in names or sorted(self.keys)])

    def change_roles(self, plan: Mapping[str, tuple[str, ...]], *names: str, now: datetime = NOW) -> None:
        """Signed by the new keys and the old root's, if none are named."""
        old_root = {name for name in self.keys if "root" in name}
        self.repository.set_roles(roles(plan), now)
        self.keys = names_in(plan)
        self.sign(*(names or sorted(self.keys | old_root)))

    def root(self, version: int = 1) -> bytes:
        return self.repository.files()[f"{version}.root.json"]

    def metadata(self, path: Path) -> Path:
        maker.write_bundle(path, self.repository, None)
        return path

    def image(
        self, path: Path, data: bytes = b"board firmware", version: str = "7.1", hardware: str = "PB-1",
        now: datetime = NOW, keep: bool = False,
    ) -> Path:  # fmt: skip
        """A bundle with an image for a power board."""
        return self._bundle(path, "power-board", f"board-{version}.bin", data, len(data), version, hardware, now, keep)

    def agent(
        self, path: Path, files: Mapping[str, bytes] | None = None, version: str = "1.2.3", now: datetime = NOW
    ) -> Path:
        """A bundle with a release of the agent."""
        files = files or {"__main__.py": b"print('agent')\n", "agent/core.py": b"# core\n"}
        data = io.BytesIO()
        pack(data, [(name, PLAIN, content) for name, content in files.items()])
        unpacked = sum(map(len, files.values()))
        return self._bundle(
            path, "agent", f"pile-agent-{version}.zip", data.getvalue(), unpacked, version, "KLC-120", now
        )

    def _bundle(
        self, path: Path, kind: Kind, name: str, data: bytes, unpacked: int, version: str, hardware: str,
        now: datetime, keep: bool = False,
    ) -> Path:  # fmt: skip
        sha256 = sha256_of(io.BytesIO(data), 0, len(data))
        abi = ABI if kind == "agent" else ""
        release = Release(f"{kind}/{name}", kind, version, (hardware,), abi, len(data), sha256, unpacked)
        self.repository.add_release(release, now, keep)
        self.sign()
        maker.write_bundle(path, self.repository, (f"{sha256}.{name}", io.BytesIO(data)))
        return path


class Pile:
    """A device's trust folder, and what it says of a file."""

    def __init__(self, folder: Path, root: bytes) -> None:
        self.trust = folder / "trust"
        self.scratch = folder / "scratch"
        trust.install_root(self.trust, root)

    def open(
        self, carrier: Path, metadata: Path | None = None, now: datetime = NOW, device: trust.Device = DEVICE
    ) -> trust.Update:
        return trust.open_update(self.trust, self.scratch, carrier, device, now, metadata)

    def install(self, carrier: Path, version: str, metadata: Path | None = None, now: datetime = NOW) -> Release:
        """Verify, and commit at once."""
        release = self.open(carrier, metadata, now).release(version)
        trust.promote(self.trust, self.scratch)
        return release

    def versions(self) -> dict[str, int]:
        """Of the metadata it trusts, by role."""
        with StoredZip.open(self.trust / trust.TRUSTED) as archive:
            files = read_metadata(archive)
        return {file.removesuffix(".json"): json.loads(data)["signed"]["version"] for file, data in files.items()}


def parts(bundle: Path) -> dict[str, bytes]:
    """All entries of an archive."""
    with StoredZip.open(bundle) as archive:
        return {name: archive.read(name, 1 << 24) for name in archive.names}


def put_together(path: Path, entries: Mapping[str, bytes]) -> Path:
    with path.open("w+b") as file:
        pack(file, [(name, PLAIN, data) for name, data in entries.items()])
    return path


def altered(
    bundle: Path, role: str, change: Callable[[dict[str, Any]], object], *names: str, path: Path | None = None
) -> Path:
    """``bundle`` with ``change`` made in what is signed of ``role``, signed again by ``names`` instead of before."""
    entries = parts(bundle)
    file = f"{METADATA}/{role}.json"
    metadata = json.loads(entries[file])
    change(metadata["signed"])
    again: Metadata[Any] = Metadata.from_dict(metadata)
    again.signatures.clear()
    for name in names:
        again.sign(KEYS[name], append=True)
    entries[file] = again.to_bytes()
    return put_together(path or bundle.with_name(f"altered-{bundle.name}"), entries)


def payload_name(bundle: Path) -> str:
    return next(name for name in parts(bundle) if name.startswith(f"{PAYLOAD}/"))


ALL_ROLES = ("targets", "snapshot", "timestamp", *KINDS)
SIGNER = {role: names[0] for role, names in PLAN.items()}
