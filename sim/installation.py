"""A pile's install directory, and what systemd does there: the installer is run whenever the agent asks for it."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

from agent.version import VERSION
from firmware_bridge import launcher
from firmware_bridge.installer import main as installer
from firmware_bridge.requests import REQUEST, TAKEN
from firmware_bridge.trust import install_root
from sim.maker import HOME, tree

LOOK_S = 0.05


class Installation:
    """``root`` holds the release of this tree, the launcher, and the trust in a maker's root; ``firmware`` is the
    agent's folder. ``start`` and ``stop`` are for the part of systemd."""

    def __init__(self, root: Path, firmware: Path, trusted_root: bytes) -> None:
        self.root = root
        self.firmware = firmware
        root.mkdir(parents=True)
        firmware.mkdir(parents=True)
        install_root(root / "trust", trusted_root)
        self._launcher = root / "launcher.py"
        shutil.copy(launcher.__file__, self._launcher)
        tree(root / "releases" / VERSION, VERSION)
        installer(["--root", str(root), "--adopt", VERSION])
        self._is_stopping = threading.Event()
        self._installer: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._serve, name="installer", daemon=True)

    @property
    def program(self) -> tuple[str, ...]:
        """How the agent is started: through the launcher. Before its own arguments."""
        why = str(self.firmware / "why.json")
        return ("-I", str(self._launcher), "--root", str(self.root), "--why", why, "run")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_stopping.set()
        self._thread.join()

    @property
    def is_installing(self) -> bool:
        return self._installer is not None and self._installer.poll() is None

    def kill(self) -> bool:
        """End the installer as a power cut does, if it runs; it is run again, as after any start of the pile."""
        was_installing = self.is_installing
        if self._installer is not None:
            self._installer.kill()
        return was_installing

    def _serve(self) -> None:
        command = [sys.executable, "-m", "firmware_bridge.installer", "--root", str(self.root),
                   "--requests", str(self.firmware)]  # fmt: skip
        while not self._is_stopping.wait(LOOK_S):
            if any((self.firmware / name).exists() for name in (REQUEST, TAKEN)):
                self._installer = subprocess.Popen(command, cwd=HOME, stdout=subprocess.DEVNULL)
                self._installer.wait()
