"""The maker's files: who signs (roles.toml), payloads and bundles. Nothing of it runs on a pile."""

import tomllib
from pathlib import Path
from typing import BinaryIO

from firmware_bridge import durable
from firmware_bridge.archive import PLAIN, PROGRAM, Entry, StoredZip, chunks, pack
from firmware_bridge.bundle import METADATA, PAYLOAD, ROLES, payload_of, read_metadata, root_version
from firmware_bridge.repository import DEFAULT_DAYS, DEFAULT_THRESHOLD, MakerError, Repository, RoleKeys


def read_roles(path: Path) -> dict[str, RoleKeys]:
    """Who signs, from a TOML file: a table for each of ROLES with ``keys`` (files beside it), ``threshold``, ``days``.

    Raises MakerError, KeyFileError, OSError.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MakerError(f"{path}: {error}") from error
    if set(tables) != set(ROLES):
        raise MakerError(f"{path}: tables {sorted(tables)}, expected {sorted(ROLES)}")
    return {role: _read_role(path, role, table) for role, table in tables.items()}


def write_payload(folder: Path, file: BinaryIO) -> int:
    """A release of the agent as a payload; the same files give the same bytes. How much they take unpacked.

    Raises MakerError (no ``__main__.py``, a link or a device in it), OSError.
    """
    if not (folder / "__main__.py").is_file():
        raise MakerError(f"{folder} has no __main__.py: a release is run as `python3 -I FOLDER`")
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    odd = [str(path) for path in paths if path.is_symlink() or not path.is_file()]
    if odd:
        raise MakerError(f"{odd[0]} is no plain file: a release has only those")
    pack(file, ((path.relative_to(folder).as_posix(), _mode(path), path.read_bytes()) for path in paths))
    return sum(path.stat().st_size for path in paths)


def write_bundle(path: Path, repository: Repository, payload: tuple[str, BinaryIO] | None) -> None:
    """A bundle, replacing ``path``; the payload's name is the entry's below ``targets/``."""
    entries: list[tuple[str, int, BinaryIO | bytes]]
    entries = [(f"{METADATA}/{file}", PLAIN, data) for file, data in sorted(repository.files().items())]
    if payload is not None:
        entries.append((f"{PAYLOAD}/{payload[0]}", PLAIN, payload[1]))
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w+b") as file:
        pack(file, entries)
        file.flush()
        durable.sync(file.fileno())
    durable.rename(fresh, path)


def read_bundle(path: Path) -> Repository:
    """Raises MakerError, BadArchive, OSError."""
    with StoredZip.open(path) as archive:
        return Repository(read_metadata(archive))


def payload_in(path: Path) -> Entry | None:
    """Where a bundle's payload is, if it has one. Raises BadArchive, OSError."""
    with StoredZip.open(path) as archive:
        has_payload = any(name.startswith(f"{PAYLOAD}/") for name in archive.names)
        return payload_of(archive) if has_payload else None


def copy_payload(path: Path, file: BinaryIO) -> str | None:
    """Copy the payload of a bundle to ``file``; its name below ``targets/``, None if there is none."""
    entry = payload_in(path)
    if entry is None:
        return None
    with path.open("rb") as source:
        for chunk in chunks(source, entry.start, entry.size):
            file.write(chunk)
    return entry.name.removeprefix(f"{PAYLOAD}/")


def root_in(path: Path) -> bytes:
    """The newest root of a bundle; a file that is no bundle is a root itself. Raises MakerError, OSError."""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if not is_archive:
        return path.read_bytes()
    files = read_bundle(path).files()
    return files[max((file for file in files if root_version(file)), key=root_version)]


def _read_role(path: Path, role: str, table: object) -> RoleKeys:
    from firmware_bridge.keys import load_public

    fields = table if isinstance(table, dict) else {}
    names, unknown = fields.get("keys"), sorted(set(fields) - {"keys", "threshold", "days"})
    if not isinstance(names, list) or not names or unknown:
        raise MakerError(f"{path}: [{role}] {unknown or 'without keys'}, expected keys, threshold, days")
    keys = tuple(load_public(path.parent / name) for name in names)
    numbers = {
        name: fields.get(name, default)
        for name, default in (("threshold", DEFAULT_THRESHOLD.get(role, 1)), ("days", DEFAULT_DAYS[role]))
    }
    for name, most in (("threshold", len({key.keyid for key in keys})), ("days", 36500)):
        if type(numbers[name]) is not int or not 1 <= numbers[name] <= most:
            raise MakerError(f"{path}: [{role}] {name} = {numbers[name]!r}, expected 1 to {most}")
    return RoleKeys(keys, numbers["threshold"], numbers["days"])


def _mode(path: Path) -> int:
    return PROGRAM if path.stat().st_mode & 0o100 else PLAIN
