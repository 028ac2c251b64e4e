"""The agent's releases on the disk, and which of them runs. Only root (the installer, the launcher) changes any of it::

    ROOT/boot.json              {"current", "previous", "trial", "tries", "running", "failed": {version: reason}, …}
    ROOT/committed.json         {"current", "previous"} once more, should boot.json be damaged
    ROOT/releases/<version>/    one release: __main__.py, packages, RELEASE.json
    ROOT/pending/<version>/     metadata to believe once that release is committed
    ROOT/trust/                 what is believed
    ROOT/launcher.py            chooses at each start; written by the package, never by an update

    staged    releases/<version> is whole, boot.json does not know it
    armed     trial = version, tries = 3; runs from the next start on
    on trial  running = trial: each start has cost a try before it
    committed current = version
    failed    failed[version] says why; current runs again

Each step is one rename, made after everything it names is on the disk.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_bridge import durable, launcher
from firmware_bridge.errors import InstallFailed

TRIES = 3
RECORD = "RELEASE.json"


@dataclass(frozen=True, slots=True)
class Boot:
    """boot.json in short. ``running`` is what the launcher started last."""

    current: str | None
    previous: str | None
    trial: str | None
    tries: int
    running: str | None
    failed: Mapping[str, str]

    @property
    def needed(self) -> set[str]:
        """The releases that run, or that may be gone back to."""
        return {version for version in (self.current, self.previous, self.trial, self.running) if version}


class Slots:
    """The release slots below ``root``. Reading is for everybody; an OSError is of the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.pending = root / "pending"
        self.trust = root / "trust"

    def boot(self) -> Boot:
        found = launcher.read_boot(self.root)
        return Boot(*(found[name] for name in Boot.__slots__))

    def folder(self, version: str) -> Path:
        return self.releases / version

    def is_staged(self, version: str) -> bool:
        return launcher.is_whole(self.root, version)

    def record(self, version: str) -> dict[str, Any]:
        """What was signed of a release; empty for the factory's."""
        return launcher.read_json(self.folder(version) / RECORD)

    # ---- root's: one change each, all of it or nothing; again is the same as once ----

    def put(self, incoming: Path, version: str) -> None:
        """A whole and durable folder becomes the release; one of that name that is not needed makes way."""
        self._remove(self.folder(version))
        durable.rename(incoming, self.folder(version))

    def put_pending(self, metadata: Path, version: str) -> None:
        """A durable folder of verified metadata is kept for the commit."""
        self._remove(self.pending / version)
        durable.rename(metadata, self.pending / version)

    def forgive(self, version: str) -> None:
        """It is staged anew: why an earlier trial of it failed is not why the next one does."""
        with self._changing() as boot:
            boot["failed"].pop(version, None)

    def arm(self, version: str, request_id: str) -> None:
        """Let ``version`` be tried from the next start on. The same request again never gives it new tries."""
        with self._changing() as boot:
            if boot["trial"] == version or boot.get("armed") == request_id:
                return
            if boot["trial"] and boot["trial"] == boot["running"]:
                raise InstallFailed(f"release {boot['trial']} is on trial, {version} must wait")
            if version == boot["current"]:
                raise InstallFailed(f"release {version} is committed already")
            if not self.is_staged(version):
                raise InstallFailed(f"release {version} is not staged")
            boot["failed"].pop(version, None)
            boot |= {"trial": version, "tries": TRIES, "armed": request_id}

    def commit(self, version: str) -> None:
        """Make the release on trial the one that is gone back to from now on."""
        with self._changing() as boot:
            if boot["trial"] == version == boot["running"]:
                boot |= {"previous": boot["current"], "current": version, "trial": None, "tries": 0}
                self._keep_second_copy(boot)
            elif boot["current"] != version:
                raise InstallFailed(
                    f"release {version} is not on trial: current {boot['current']}, trial {boot['trial']}"
                )

    def drop(self, version: str) -> None:
        """Forget a release that was staged or armed, or has failed; not one that runs or may be gone back to."""
        with self._changing() as boot:
            if boot["trial"] == version:
                if boot["running"] == version:
                    raise InstallFailed(f"release {version} is on trial: it ends it by ending itself")
                boot |= {"trial": None, "tries": 0}
        self._remove(self.pending / version)
        if version not in self.boot().needed:
            self._remove(self.folder(version))

    def prune(self) -> None:
        """After a commit: only what runs or may be gone back to stays, and no metadata waits."""
        needed = self.boot().needed
        for path in _children(self.releases):
            if path.name not in needed:
                self._remove(path)
        for path in _children(self.pending):
            self._remove(path)

    def adopt(self, version: str) -> None:
        """The package's: make a release that it has unpacked the committed one; a trial is over."""
        with self._changing() as boot:
            if not self.is_staged(version):
                raise InstallFailed(f"{self.folder(version)} holds no release")
            previous = boot["previous"] if boot["current"] == version else boot["current"]
            boot |= {"current": version, "previous": previous, "trial": None, "tries": 0}
            self._keep_second_copy(boot)

    def clean(self) -> None:
        """Make the folders, remove what an installer left that was killed."""
        for folder in (self.releases, self.pending):
            if not folder.is_dir():
                folder.mkdir()
                folder.chmod(0o755)
                durable.sync_folder(self.root)
            for path in _children(folder):
                if path.name.startswith("."):
                    shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """boot.json, written if it was changed; nothing is written after an error."""
        with launcher.locked(self.root):
            boot = launcher.read_boot(self.root)
            before = json.dumps(boot)
            yield boot
            if json.dumps(boot) != before or not (self.root / "boot.json").exists():
                launcher.write_boot(self.root, boot)

    def _keep_second_copy(self, boot: Mapping[str, Any]) -> None:
        copy = {name: boot[name] for name in ("current", "previous")}
        durable.write_file(self.root / "committed.json", json.dumps(copy).encode())

    def _remove(self, folder: Path) -> None:
        """Its name goes first: half a release never stands under the name of a whole one."""
        if folder.exists():
            gone = folder.with_name(f".gone-{folder.name}")
            shutil.rmtree(gone, ignore_errors=True)
            durable.rename(folder, gone)
            shutil.rmtree(gone, ignore_errors=True)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def sync_tree(folder: Path) -> None:
    """Everything in ``folder`` is on the disk when this returns, its own name in its parent not yet."""
    for place, _folders, files in os.walk(folder):
        for name in files:
            fd = os.open(os.path.join(place, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                durable.sync(fd)
            finally:
                os.close(fd)
        durable.sync_folder(Path(place))
