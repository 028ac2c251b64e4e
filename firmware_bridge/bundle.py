"""What stands in a bundle, and what its signed metadata say of a payload. A bundle is a stored zip::

    metadata/1.root.json …       every root so far, so that a pile that slept through rotations can follow
    metadata/timestamp.json      snapshot.json  targets.json
    metadata/agent.json          metadata/power-board.json    delegated: each kind of firmware has keys of its own
    targets/<sha256>.<name>      the payload: a stored zip for the agent, the image for a power board

A bundle without payload is what lies beside a raw image, and what a pile keeps of what it trusts.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from firmware_bridge.archive import BadArchive, Entry, StoredZip
from firmware_bridge.errors import NotAuthentic

Kind = Literal["agent", "power-board"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ROLES = ("root", "targets", "snapshot", "timestamp", *KINDS)

METADATA = "metadata"
PAYLOAD = "targets"
MOST_METADATA = 256 * 1024  # bytes of one metadata file; ours have 1 to 5 KB
MOST_IN_ALL = 1024 * 1024  # bytes of a bundle's metadata: they are held in memory
LAYOUT = 1  # of a payload and its custom data
ISSUED = "issued"  # our field in root and timestamp: when it was made, so what time it is at least

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}")  # of firmware: a pile makes a folder's name of it
_ROOT = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True)
class Release:
    """What is signed of a payload. ``hardware``: the devices it is for; ``abi``: the interpreter, "" for a power board;
    ``size`` and ``sha256`` of the payload; ``unpacked``: bytes it takes on the disk."""

    target: str
    kind: Kind
    version: str
    hardware: tuple[str, ...]
    abi: str
    size: int
    sha256: str
    unpacked: int


def root_version(file: str) -> int:
    """Of a root's file name, ``3.root.json``; 0 for any other name."""
    match = _ROOT.fullmatch(file)
    return int(match[1]) if match else 0


def read_metadata(archive: StoredZip) -> dict[str, bytes]:
    """The metadata in a bundle by file name, ``agent.json``; unknown ones stay unread. Raises BadArchive, OSError."""
    files = [name.removeprefix(f"{METADATA}/") for name in archive.names if name.startswith(f"{METADATA}/")]
    known = [file for file in files if root_version(file) or file in (f"{role}.json" for role in ROLES)]
    size = sum(archive.entry(f"{METADATA}/{file}").size for file in known)
    if size > MOST_IN_ALL:
        raise BadArchive(f"metadata: {size} bytes, expected at most {MOST_IN_ALL}")
    return {file: archive.read(f"{METADATA}/{file}", MOST_METADATA) for file in known}


def issued_at(text: object) -> datetime | None:
    """When metadata were made, by their field ``issued``; None if that is no time with an offset."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


def payload_of(archive: StoredZip) -> Entry:
    """The one entry that is no metadata. Raises BadArchive."""
    names = [name for name in archive.names if not name.startswith(f"{METADATA}/")]
    if len(names) != 1:
        raise BadArchive(f"payloads: {', '.join(names) or 'none'}, expected one")
    return archive.entry(names[0])


def release_of(target: str, size: int, hashes: dict[str, str], custom: Any) -> Release:
    """What the signed metadata say of ``target``. Raises NotAuthentic, naming the field that can't be."""
    fields = custom if isinstance(custom, dict) else {}
    kind = next((one for one in KINDS if one == fields.get("kind") == target.split("/")[0]), None)
    if kind is None:
        raise NotAuthentic(f"{target}: kind = {fields.get('kind')!r}, expected {' or '.join(KINDS)}, as it is called")
    if fields.get("layout") != LAYOUT:
        raise NotAuthentic(f"{target}: layout = {fields.get('layout')!r}, expected {LAYOUT}")
    sha256 = hashes.get("sha256")
    if sha256 is None:
        raise NotAuthentic(f"{target}: hashes {sorted(hashes)}, expected sha256")
    return Release(
        target=target,
        kind=kind,
        version=_version(target, fields),
        hardware=_texts(target, fields, "hardware"),
        abi=_text(target, fields, "abi", may_be_empty=kind != "agent"),
        size=size,
        sha256=sha256,
        unpacked=_number(target, fields, "unpacked"),
    )


def custom_of(release: Release) -> dict[str, Any]:
    """What is signed beside size and hash; the other way around: :func:`release_of`."""
    return {
        "kind": release.kind,
        "version": release.version,
        "hardware": list(release.hardware),
        "abi": release.abi,
        "unpacked": release.unpacked,
        "layout": LAYOUT,
    }


def _version(target: str, fields: dict[str, Any]) -> str:
    value = fields.get("version")
    if isinstance(value, str) and VERSION.fullmatch(value):
        return value
    raise NotAuthentic(f"{target}: version = {value!r}, expected {VERSION.pattern}")


def _text(target: str, fields: dict[str, Any], name: str, may_be_empty: bool = False) -> str:
    value = fields.get(name)
    if isinstance(value, str) and (value or may_be_empty):
        return value
    raise NotAuthentic(f"{target}: {name} = {value!r}, expected a text")


def _texts(target: str, fields: dict[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise NotAuthentic(f"{target}: {name} = {value!r}, expected a list of texts")


def _number(target: str, fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise NotAuthentic(f"{target}: {name} = {value!r}, expected an integer from 0")
