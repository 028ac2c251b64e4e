"""Whoever makes firmware for the simulated site: signs with keys of its own, all in one hand as never in real life."""

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from firmware_bridge.archive import sha256_of
from firmware_bridge.bundle import ROLES, Kind, Release
from firmware_bridge.maker import write_bundle, write_payload
from firmware_bridge.repository import DEFAULT_DAYS, Repository, RoleKeys
from firmware_bridge.trust import this_abi
from sim.firmware_window import MAGIC

HARDWARE = "PB-200"
HOME = Path(__file__).parents[1]
PACKAGES = ("agent", "cext", "firmware_bridge")
FILLING = bytes(range(256))


class Maker:
    """Its ``root`` is what the factory puts on a pile."""

    def __init__(self) -> None:
        self._signer = CryptoSigner.generate_ed25519()
        self._signer.public_key.unrecognized_fields["name"] = "demo"
        keys = (self._signer.public_key,)
        self._repository = Repository({})
        roles = {role: RoleKeys(keys, 1, DEFAULT_DAYS[role]) for role in ROLES}
        self._repository.set_roles(roles, datetime.now(UTC))
        self._repository.sign([self._signer])

    @property
    def root(self) -> bytes:
        return self._repository.files()["1.root.json"]

    def board(self, path: Path, version: str, size: int = 2048, hardware: str = HARDWARE) -> None:
        """A bundle with an image for the simulated power board, unless it is for other hardware."""
        head = MAGIC + version.encode() + b"\0"
        image = (head + FILLING * (size // len(FILLING) + 1))[:size]
        self._bundle(path, "power-board", f"pb-{version}.bin", image, version, "", len(image), hardware)

    def release(self, path: Path, version: str, fault: str = "") -> None:
        """A bundle with this very agent under another version; ``fault`` is a line of code at its start."""
        folder = path.with_suffix(".release")
        tree(folder, version, fault)
        payload = io.BytesIO()
        unpacked = write_payload(folder, payload)
        shutil.rmtree(folder)
        self._bundle(path, "agent", f"pile-agent-{version}.zip", payload.getvalue(), version, this_abi(), unpacked)

    def _bundle(
        self, path: Path, kind: Kind, name: str, data: bytes, version: str, abi: str, unpacked: int,
        hardware: str = HARDWARE,
    ) -> None:  # fmt: skip
        sha256 = sha256_of(io.BytesIO(data), 0, len(data))
        release = Release(f"{kind}/{name}", kind, version, (hardware,), abi, len(data), sha256, unpacked)
        self._repository.add_release(release, datetime.now(UTC))
        self._repository.sign([self._signer])
        write_bundle(path, self._repository, (f"{sha256}.{name}", io.BytesIO(data)))


def tree(folder: Path, version: str, fault: str = "") -> None:
    """The agent as it stands here as a release: ``python3 -I folder run``. Its libraries are those of this Python."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyx", "*.c", "*.pyi")
        shutil.copytree(HOME / package, folder / package, ignore=ignored)
    main = (HOME / "scripts" / "release_main.py").read_text(encoding="utf-8")
    (folder / "__main__.py").write_text(f"{main.partition('import runpy')[0]}{fault}\nimport runpy"
                                        f"{main.partition('import runpy')[2]}", encoding="utf-8")  # fmt: skip
    released = (folder / "agent" / "version.py").read_text(encoding="utf-8")
    (folder / "agent" / "version.py").write_text(f'{released}\nVERSION = "{version}"\n', encoding="utf-8")
