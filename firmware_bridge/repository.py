"""The maker's metadata: who signs what, which releases, and how far it is signed. Nothing of it runs on a pile.

The last bundle is all the state there is: a :class:`Repository` reads its metadata and makes the next from them. What
it changes loses its signatures, and so do snapshot and timestamp, which speak of the others. Terms: TUF 1.0.31, part 4.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from firmware_bridge.bundle import ISSUED, KINDS, ROLES, Release, custom_of, issued_at, release_of, root_version

DAYS = "days"  # our field of a role: how long what it signs is valid
DEFAULT_DAYS = {"root": 3650, "targets": 3650, "agent": 730, "power-board": 730, "snapshot": 180, "timestamp": 180}
DEFAULT_THRESHOLD = {"root": 2}


class MakerError(Exception):
    """What was asked for can't be made: says what was found, and what was expected."""


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who may sign for a role: ``threshold`` of ``keys``, for ``days``."""

    keys: tuple[Key, ...]
    threshold: int
    days: int


@dataclass(frozen=True, slots=True)
class Signing:
    """How far one metadata file is signed: by these names, out of all that may, ``missing`` more are needed."""

    role: str
    version: int
    expires: datetime
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]
    missing: int


class Repository:
    """All metadata of a bundle: every root, and the newest of each other role."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Raises MakerError."""
        try:
            found: dict[str, Metadata[Any]] = {file: Metadata.from_bytes(data) for file, data in files.items()}
        except RepositoryError as error:
            raise MakerError(f"the metadata can't be read: {error}") from error
        self._roots = sorted((one for file, one in found.items() if root_version(file)), key=_version)
        self._others = {file.removesuffix(".json"): one for file, one in found.items() if not root_version(file)}

    def files(self) -> dict[str, bytes]:
        """By file name, as a bundle carries them."""
        roots = {f"{one.signed.version}.root.json": one for one in self._roots}
        others = {f"{role}.json": one for role, one in self._others.items()}
        return {file: one.to_bytes(JSONSerializer(compact=False)) for file, one in (roots | others).items()}

    @property
    def root(self) -> Root:
        """The newest. Raises MakerError."""
        if not self._roots:
            raise MakerError("there is no root yet: make the roles first")
        root: Root = self._roots[-1].signed
        return root

    def releases(self, kind: str) -> list[Release]:
        """What is signed of payloads of ``kind``. Raises NotAuthentic where it makes no sense."""
        targets = self._targets(kind).values()
        return [release_of(one.path, one.length, one.hashes, one.custom) for one in targets]

    # ---- changes ----

    def set_roles(self, roles: Mapping[str, RoleKeys], now: datetime) -> None:
        """Let ``roles`` (all of ROLES) say who signs from now on; only what differs becomes new metadata."""
        before = self._who_signs() if self._roots else {}
        changed = {role for role in ROLES if before.get(role) != roles[role]}
        named_in = {"targets" if role in KINDS else "root" for role in changed}  # where it stands who signs for it
        self._make(changed | named_in, roles, now)

    def renew(self, names: Collection[str], now: datetime) -> None:
        """The same again with a later expiry: ``names`` of roles, snapshot and timestamp anyway. Raises MakerError."""
        unknown = sorted(set(names) - set(ROLES))
        if unknown:
            raise MakerError(f"role {unknown[0]!r}, expected one of {', '.join(ROLES)}")
        self._make(set(names), self._who_signs(), now)

    def _make(self, names: set[str], roles: Mapping[str, RoleKeys], now: datetime) -> None:
        if "root" in names:
            self._roots.append(Metadata[Any](_new_root(roles, len(self._roots) + 1, now)))
        else:
            self._check_clock(now)
        for kind in KINDS:
            if kind in names:
                self._renew(kind, Targets(targets=self._targets(kind)), roles[kind].days, now)
        if "targets" in names:
            self._renew("targets", Targets(delegations=_delegations(roles)), roles["targets"].days, now)
        self._speak_of_the_others(roles, now)

    def add_release(self, release: Release, now: datetime, keep: bool = False) -> None:
        """Sign ``release``, in place of those it follows: same kind and abi, some hardware in common. ``keep`` them:
        then they can still be installed. Raises MakerError."""
        listed = self.releases(release.kind)
        kept = [one for one in listed if keep or not _follows(release, one)]
        if any(one.target == release.target and one.sha256 != release.sha256 for one in kept):
            raise MakerError(f"{release.target} is the name of another payload already: give the file another name")
        targets = {one.target: _target(one) for one in (*kept, release)}
        self._check_clock(now)
        roles = self._who_signs()
        self._renew(release.kind, Targets(targets=targets), roles[release.kind].days, now)
        self._speak_of_the_others(roles, now)

    def _speak_of_the_others(self, roles: Mapping[str, RoleKeys], now: datetime) -> None:
        """A new snapshot of the versions, and a new timestamp of the snapshot's."""
        meta = {f"{role}.json": MetaFile(self._others[role].signed.version) for role in ("targets", *KINDS)}
        version = self._renew("snapshot", Snapshot(meta=meta), roles["snapshot"].days, now)
        timestamp = Timestamp(snapshot_meta=MetaFile(version))
        timestamp.unrecognized_fields[ISSUED] = _iso(now)
        self._renew("timestamp", timestamp, roles["timestamp"].days, now)

    def _check_clock(self, now: datetime) -> None:
        """To a pile it is at least as late as the timestamp says: one from the future would age all that follow, up to
        the next root."""
        last = self._others["timestamp"].signed.unrecognized_fields.get(ISSUED) if "timestamp" in self._others else None
        at = issued_at(last)
        if at is not None and now < at:
            raise MakerError(
                f"the last bundle was made at {_iso(at)}, this clock says {_iso(now)}: which one is wrong?"
            )

    def _renew(self, role: str, signed: Targets | Snapshot | Timestamp, days: int, now: datetime) -> int:
        """Its new version."""
        signed.version = self._others[role].signed.version + 1 if role in self._others else 1
        signed.expires = _after(days, now)
        self._others[role] = Metadata[Any](signed)
        return signed.version

    def _targets(self, kind: str) -> dict[str, TargetFile]:
        targets: dict[str, TargetFile] = self._others[kind].signed.targets if kind in self._others else {}
        return targets

    def _who_signs(self) -> dict[str, RoleKeys]:
        """What the newest root and targets say of every role. Raises MakerError before the first."""
        root, targets = self.root, self._others["targets"].signed
        delegators = {role: targets if role in KINDS else root for role in ROLES}
        return {role: _role_keys(delegator, role) for role, delegator in delegators.items()}

    # ---- signatures ----

    def sign(self, signers: Iterable[Signer]) -> list[str]:
        """Let each key sign what it may sign and what still needs signatures; what it signed, a line each time.

        Raises MakerError if no role names a key.
        """
        done = []
        for signer in signers:
            keyid = signer.public_key.keyid
            mine = [one for one in self._signables() if keyid in one.keyids()]
            if not mine:
                raise MakerError(f"key {keyid[:16]} signs nothing here: no role names it")
            for one in mine:
                if keyid not in one.metadata.signatures and one.signing().missing:
                    one.metadata.sign(signer, append=True)
                    done.append(f"{one.role} {one.metadata.signed.version}: signed by {one.name_of(keyid)}")
        return done

    def demand_signed(self) -> None:
        """Raises MakerError, naming what signatures are missing: nothing new is made on unsigned metadata."""
        missing = [one for one in self.signings() if one.missing]
        if missing:
            names = ", ".join(f"{one.role} {one.version}" for one in missing)
            raise MakerError(f"signatures are missing of {names}: sign it first")

    def signings(self) -> list[Signing]:
        """How far each file is signed, in the order in which a pile checks them."""
        return [one.signing() for one in self._signables()]

    def _signables(self) -> list["_Signable"]:
        found = []
        before: list[Root | Targets] = []
        for one in self._roots:
            found.append(_Signable("root", one, [one.signed, *before]))
            before = [one.signed]
        for role in ("timestamp", "snapshot", "targets", *KINDS):
            if role in self._others:
                delegator = self._others["targets"].signed if role in KINDS else self.root
                found.append(_Signable(role, self._others[role], [delegator]))
        return found


@dataclass(frozen=True, slots=True)
class _Signable:
    """One metadata file with those who say who may sign it; a root's are itself and the root before."""

    role: str
    metadata: Metadata[Any]
    delegators: list[Root | Targets]

    def keyids(self) -> set[str]:
        return {keyid for one in self.delegators for keyid in one.get_delegated_role(self.role).keyids}

    def name_of(self, keyid: str) -> str:
        return _name_of(next(one.get_key(keyid) for one in self.delegators if keyid in _keys(one)))

    def signing(self) -> Signing:
        metadata = self.metadata
        results = [
            one.get_verification_result(self.role, metadata.signed_bytes, metadata.signatures)
            for one in self.delegators
        ]
        signed = {keyid: key for one in results for keyid, key in one.signed.items()}
        unsigned = {keyid: key for one in results for keyid, key in one.unsigned.items()}
        return Signing(
            role=self.role,
            version=metadata.signed.version,
            expires=metadata.signed.expires,
            signed=tuple(sorted(map(_name_of, signed.values()))),
            unsigned=tuple(sorted(map(_name_of, unsigned.values()))),
            missing=max(one.missing for one in results),
        )


def _new_root(roles: Mapping[str, RoleKeys], version: int, now: datetime) -> Root:
    names = [role for role in ROLES if role not in KINDS]
    keys = {key.keyid: key for role in names for key in roles[role].keys}
    made = {role: _new_role(roles[role]) for role in names}
    expires = _after(roles["root"].days, now)
    root = Root(version=version, expires=expires, keys=keys, roles=made, consistent_snapshot=False)
    root.unrecognized_fields[ISSUED] = _iso(now)
    return root


def _new_role(keys: RoleKeys) -> Role:
    return Role([key.keyid for key in keys.keys], keys.threshold, {DAYS: keys.days})


def _delegations(roles: Mapping[str, RoleKeys]) -> Delegations:
    """Each kind's images stand below its own name, and nobody else's key counts there."""
    keys = {key.keyid: key for kind in KINDS for key in roles[kind].keys}
    delegated: dict[str, DelegatedRole] = {
        kind: DelegatedRole(
            kind,
            [key.keyid for key in roles[kind].keys],
            roles[kind].threshold,
            terminating=True,
            paths=[f"{kind}/*"],
            unrecognized_fields={DAYS: roles[kind].days},
        )
        for kind in KINDS
    }
    return Delegations(keys, delegated)


def _role_keys(delegator: Root | Targets, name: str) -> RoleKeys:
    role = delegator.get_delegated_role(name)
    days = role.unrecognized_fields.get(DAYS, DEFAULT_DAYS[name])
    return RoleKeys(tuple(delegator.get_key(keyid) for keyid in role.keyids), role.threshold, days)


def _keys(delegator: Root | Targets) -> dict[str, Key]:
    if isinstance(delegator, Root):
        return delegator.keys
    return delegator.delegations.keys if delegator.delegations else {}


def _name_of(key: Key) -> str:
    return str(key.unrecognized_fields.get("name", key.keyid[:16]))


def _target(release: Release) -> TargetFile:
    return TargetFile(release.size, {"sha256": release.sha256}, release.target, {"custom": custom_of(release)})


def _follows(new: Release, old: Release) -> bool:
    return new.abi == old.abi and bool(set(new.hardware) & set(old.hardware))


def _version(metadata: Metadata[Any]) -> int:
    version: int = metadata.signed.version
    return version


def _after(days: int, now: datetime) -> datetime:
    return now.astimezone(UTC) + timedelta(days=days)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
