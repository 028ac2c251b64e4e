"""docs/protocol.md is what the command table says it is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from codec_helpers import CODEC

from agent.protocol.commands import COMMANDS
from agent.protocol.events import AlarmCode, EventCode
from agent.protocol.fields import Repeat, fields_of
from agent.protocol.page import page
from agent.protocol.results import GunStatus, Result, StopReason, UpdateState

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "protocol.md"


def check(file: Path) -> int:
    """The exit code of ``--check``."""
    command = [sys.executable, "-m", "agent.protocol.page", "--check", str(file)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m agent.protocol.page > docs/protocol.md"


def test_check_tells_a_stale_page(tmp_path: Path) -> None:
    stale = tmp_path / "protocol.md"
    assert check(PAGE) == 0
    assert check(stale) == 1, "missing"
    stale.write_text(page() + "\n", encoding="utf-8")
    assert check(stale) == 1


def test_the_command_prints_the_page() -> None:
    printed = subprocess.run([sys.executable, "-m", "agent.protocol.page"], cwd=ROOT, check=True, capture_output=True)
    assert printed.stdout.decode() == page()


def test_every_literal_line_is_good() -> None:
    """What stands on the page can be copied: the parser reads each line, down or up."""
    lines = re.findall(r"^    (192\.168\.1\.100,.*)$", page(), re.MULTILINE)
    down = [text for text in lines if ",1795305600000,0000012345" in text]
    up = [text for text in lines if ",1795305600250,0000012345," in text]
    assert len(down) + len(up) == len(lines)
    assert [CODEC.decode(text.encode()).command for text in down] == list(range(100, 115))
    assert {CODEC.decode_reply(text.encode()).command for text in up} == set(range(100, 115))


@pytest.mark.parametrize("number", COMMANDS)
def test_a_command_has_a_section_with_every_field(number: int) -> None:
    command = COMMANDS[number]
    section = page().split(f"\n### {number} {command.title}\n")[1].split("\n### ")[0]
    assert f"[{number}](#{number}-{command.name})" in page()
    for cls in (command.data, *command.replies):
        for name, kind in fields_of(cls).items():
            assert f"| {name} |" in section
            if isinstance(kind, Repeat):
                assert all(f"| › {inner} |" in section for inner in fields_of(kind.row))


def test_every_number_is_listed() -> None:
    for result in Result:
        assert f"| {result.value} | {result.name} |" in page()
    for number in (*GunStatus, *StopReason, *UpdateState, *EventCode, *AlarmCode):
        assert f"| {number.value} | {number.name.lower().replace('_', ' ')} |" in page()


def test_its_own_links_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", page(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\(#([^)]*)\)", page())) <= anchors


def test_tables_are_whole() -> None:
    """Each row has as many cells as the head of its table."""
    for block in re.findall(r"(?:^\|.*\n)+", page(), re.MULTILINE):
        assert len({row.count("|") for row in block.splitlines()}) == 1
