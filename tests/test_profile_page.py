"""docs/registers.md is the reference profile, written out."""

from pathlib import Path

from agent.power.profile import load_profile
from agent.power.registers_page import render

PAGE = Path(__file__).parent.parent / "docs" / "registers.md"


def test_the_page_in_docs_is_what_the_profile_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(load_profile("reference")), (
        "stale: run python -m agent.power.registers_page > docs/registers.md"
    )


def test_every_register_and_action_stands_on_the_page() -> None:
    page = render(load_profile("reference"))
    profile = load_profile("reference")
    for register in profile.registers:
        assert f"| `{register.name}` |" in page
    for action in profile.actions:
        assert f"| `{action}` |" in page


def test_a_row_reads_like_a_manual() -> None:
    page = render(load_profile("reference"))
    assert "| `0x0044` | `voltage` | u16 | 0.1 V | r | live | Output voltage; invalid: `0xffff` |" in page
    assert "| `0x0212` | `current_limit` | u16 | 60..2500 × 0.1 A | rw | setting | Largest current" in page
    assert "| 0 | `emergency_stop` | 6 | Button pressed; cleared by releasing it |" in page
