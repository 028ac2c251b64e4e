"""What a verdict on a bundle costs, with and without the package ``cryptography``: ``python -m bench.trust``.

Each is a process of its own, as on a pile: it imports, verifies a bundle with a release of 0.7 MB, and ends.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from firmware_bridge import maker, trust
from firmware_bridge.archive import PLAIN, pack, sha256_of
from firmware_bridge.bundle import ROLES, Release
from firmware_bridge.repository import DEFAULT_DAYS, Repository, RoleKeys

FILES = 150
FILE_BYTES = 4700
VERIFY = r"""
import re, sys, time
from pathlib import Path
if {without}:
    sys.modules["cryptography"] = None  # what an import of a missing package finds
from firmware_bridge import trust
from datetime import UTC, datetime
folder = Path({folder!r})
began = time.monotonic()
device = trust.Device(("KLC-120",), "abi")
trust.open_update(folder / "trust", folder / "scratch", folder / "bundle", device, datetime.now(UTC)).release("1.2.3")
ended = time.monotonic()
peak_kb = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
print((ended - began) * 1000, peak_kb / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="of each, the best counts (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        print(f"a verdict on {(folder / 'bundle').stat().st_size} bytes, 5 metadata files, 7 signatures; best of each")
        for without, text in ((False, "with cryptography"), (True, "without")):
            runs = [measure(folder, without) for _ in range(options.runs)]
            process_ms, verdict_ms, memory_mb = (min(run[column] for run in runs) for column in range(3))
            print(f"{text:<18} process {process_ms:4.0f} ms, verdict {verdict_ms:4.0f} ms, memory {memory_mb:5.1f} MB")


def make(folder: Path) -> None:
    """A pile's trust and a bundle for it: root 2 of 3, one key for each other role."""
    now = datetime.now(UTC)
    signers = {role: [CryptoSigner.generate_ed25519() for _ in range(3 if role == "root" else 1)] for role in ROLES}
    roles = {
        role: RoleKeys(tuple(one.public_key for one in keys), 2 if role == "root" else 1, DEFAULT_DAYS[role])
        for role, keys in signers.items()
    }
    repository = Repository({})
    repository.set_roles(roles, now)
    payload = BytesIO()
    pack(payload, [(f"agent/module_{number}.py", PLAIN, os.urandom(FILE_BYTES)) for number in range(FILES)])
    size = len(payload.getvalue())
    sha256 = sha256_of(payload, 0, size)
    release = Release("agent/a.zip", "agent", "1.2.3", ("KLC-120",), "abi", size, sha256, FILES * FILE_BYTES)
    repository.add_release(release, now)
    repository.sign([one for keys in signers.values() for one in keys])
    payload.seek(0)
    maker.write_bundle(folder / "bundle", repository, (f"{sha256}.a.zip", payload))
    trust.install_root(folder / "trust", repository.files()["1.root.json"])


def measure(folder: Path, without: bool) -> tuple[float, float, float]:
    """Milliseconds of the whole process, of the verdict, and its peak memory in MB."""
    code = VERIFY.format(without=without, folder=str(folder))
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    process_ms = (time.monotonic() - began) * 1000
    verdict_ms, memory_mb = map(float, done.stdout.split())
    return process_ms, verdict_ms, memory_mb


if __name__ == "__main__":
    main()
