"""A pile has no ``cryptography``: the verdicts must be the same with securesystemslib's own Ed25519."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trust_helpers import NOW, House, Pile, altered, parts, put_together

SHA256 = hashlib.sha256(b"board firmware").hexdigest()
VERDICTS = """
import json, sys
from datetime import datetime
from pathlib import Path
sys.modules["cryptography"] = None  # what an import of a missing package finds
from firmware_bridge import trust
from firmware_bridge.errors import FirmwareError
folder, now = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
device = trust.Device(("KLC-120", "PB-1"), trust.this_abi())
verdicts = {}
for bundle in sorted(folder.glob("*.bundle")):
    try:
        update = trust.open_update(folder / "trust", folder / "scratch", bundle, device, now)
        verdicts[bundle.stem] = update.release("7.1").version
    except FirmwareError as error:
        verdicts[bundle.stem] = str(error)
loaded = [name for name in sys.modules if name.startswith("cryptography.")]
print(json.dumps({"verdicts": verdicts, "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bare")
    house = House()
    Pile(folder, house.root())
    good = house.image(folder / "good.bundle")
    altered(good, "timestamp", lambda signed: signed.update(version=9), path=folder / "unsigned.bundle")
    altered(good, "power-board", lambda signed: None, "agent", path=folder / "foreign.bundle")
    _with_a_broken_signature(good, folder / "broken.bundle")
    done = subprocess.run(
        [sys.executable, "-c", VERDICTS, str(folder), NOW.isoformat()], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _with_a_broken_signature(good: Path, path: Path) -> None:
    entries = parts(good)
    metadata = json.loads(entries["metadata/snapshot.json"])
    signature = metadata["signatures"][0]["sig"]
    metadata["signatures"][0]["sig"] = f"{int(signature[:2], 16) ^ 1:02x}{signature[2:]}"
    put_together(path, entries | {"metadata/snapshot.json": json.dumps(metadata).encode()})


def test_the_verdicts_are_the_same(found: dict[str, Any]) -> None:
    assert found["verdicts"] == {
        "good": "7.1",
        "unsigned": "unsigned.bundle: timestamp was signed by 0/1 keys",
        "foreign": f"foreign.bundle: nobody signed 14 bytes with SHA-256 {SHA256}; "
        "power-board.json: power-board was signed by 0/1 keys",
        "broken": "broken.bundle: snapshot was signed by 0/1 keys",
    }


def test_nothing_of_it_was_loaded(found: dict[str, Any]) -> None:
    assert found["loaded"] == []
