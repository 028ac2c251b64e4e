"""docs/operations/signing.md: every command on it, in its order, and what it claims about them."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from trust_helpers import Pile

from firmware_bridge import maker, trust
from firmware_bridge.errors import NotAuthentic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations" / "signing.md"
BLOCKS: list[str] = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
DEVICE = trust.Device(("KLC-120", "PB-1"), "cpython-311-aarch64-linux-gnu")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each block says when it is typed; the folder they were typed in under the key ""."""
    folder = tmp_path_factory.mktemp("maker")
    (folder / "passphrase").write_text("correct horse battery staple\n")
    for version in ("1.1.0", "1.2.0"):
        (folder / f"payload-{version}" / "agent").mkdir(parents=True)
        (folder / f"payload-{version}" / "__main__.py").write_text(f"print('{version}')\n")
        (folder / f"payload-{version}" / "agent" / "core.py").write_text("")
    for version in ("7.1", "7.2"):
        (folder / f"board-{version}.bin").write_bytes(version.encode() * 500)
    return {"": str(folder)} | {block: typed(folder, block) for block in BLOCKS}


def typed(folder: Path, block: str) -> str:
    program = f'pile-agent() {{ "{sys.executable}" -m agent.cli.main "$@"; }}\n'
    shell = subprocess.run(
        ["bash", "-euc", program + block],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (shell.returncode, shell.stderr) == (0, ""), block + shell.stderr
    return str(shell.stdout)


def block_with(words: str) -> str:
    return next(block for block in BLOCKS if words in block)


def test_all_commands_of_the_page_are_typed(said: dict[str, str]) -> None:
    page = PAGE.read_text(encoding="utf-8")

    typed_lines = sum(block.count("pile-agent bundle") for block in BLOCKS)
    assert typed_lines == page.count("\npile-agent bundle") == 42


def test_the_first_bundle_says_what_is_missing_until_nothing_is(said: dict[str, str]) -> None:
    first = said[block_with("--out first.tuf.zip")]

    assert "missing: root 1 needs 2 more of root-1, root-2, root-3" in first
    assert first.count("first.tuf.zip: not complete") == 4
    assert first.count("first.tuf.zip: complete") == 2


def test_each_bundle_of_the_page_is_complete_in_the_end(said: dict[str, str]) -> None:
    for block in BLOCKS[4:]:
        last = [line for line in said[block].splitlines() if line.endswith(("complete", "would install it"))][-1]
        assert not last.endswith("not complete"), block


def test_a_private_key_is_for_its_owner_alone_and_encrypted(said: dict[str, str]) -> None:
    folder = Path(said[""])

    for key in folder.glob("*/*.pem"):
        assert key.stat().st_mode & 0o777 == 0o600
        assert (b"ENCRYPTED" in key.read_bytes()) == (not key.name.startswith("online"))


def test_a_pile_takes_the_bundles_in_their_order_and_none_twice_backwards(said: dict[str, str], tmp_path: Path) -> None:
    folder = Path(said[""])
    pile = Pile(tmp_path, maker.root_in(folder / "first.tuf.zip"))
    order = [
        ("agent-1.2.0.bundle", "1.2.0"),
        ("board-7.1.bundle", "7.1"),
        ("agent-1.1.0-again.bundle", "1.1.0"),
        ("agent-1.1.0-new-keys.bundle", "1.1.0"),
    ]
    now = datetime.now(UTC)
    for name, version in order:
        assert pile.open(folder / name, now=now, device=DEVICE).release(version)
        trust.promote(pile.trust, pile.scratch)
    for name, _ in order[:3]:
        with pytest.raises(NotAuthentic):
            pile.open(folder / name, now=now, device=DEVICE)
    assert pile.versions()["root"] == 4
