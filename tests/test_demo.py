"""The demo tells the truth: it covers every command, and fails when one outcome is not as expected."""

import io
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from agent.protocol.commands import COMMANDS, Empty
from agent.protocol.results import Result
from sim import demo
from sim.demo import Demo, Outcome, Teller, closing
from sim.frames import describe, hexadecimal
from sim.site import PILE, Site
from sim.story import Step, start, story

STEP = Step("How is the pile?", 100, Empty(), (Result.OK,))
ALL_AS_EXPECTED = [Outcome(replace(STEP, number=number)) for number in COMMANDS]


# ---- the story ----


def test_the_story_covers_all_fifteen_commands(tmp_path: Path) -> None:
    numbers = {step.number for step in story(Site(tmp_path))}
    assert numbers == set(range(100, 115)) == COMMANDS.keys()


def test_every_step_of_the_story_can_be_put_on_the_wire(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for step in story(site):
        if not step.again and not step.line:
            values = step.values
            assert site.codec.decode(site.command(step.number, values)).data == values


# ---- its verdict ----


def test_it_ends_well_when_every_command_came_out_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    assert closing(ALL_AS_EXPECTED) == 0
    assert capsys.readouterr().out.endswith("15 of 15 steps as expected; commands not shown: none\n")


def test_it_fails_for_one_outcome_that_is_not_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Outcome(STEP, wrong="replies none, expected OK")
    assert closing([*ALL_AS_EXPECTED, wrong]) == 1
    assert "15 of 16 steps as expected" in capsys.readouterr().out


def test_it_fails_when_a_command_was_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert closing(ALL_AS_EXPECTED[1:]) == 1
    assert capsys.readouterr().out.endswith("commands not shown: [100]\n")


# ---- a short story, told with the real agent ----


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """Exit code and text of a story whose second to fourth step expect the wrong thing."""
    steps = [
        STEP,
        replace(STEP, says="Wrong reply.", replies=(Result.BUSY,)),
        replace(STEP, says="Too many.", replies=(Result.OK, Result.OK), timeout_s=0.3),
        replace(STEP, says="Failing check.", check=lambda site: "the board is on fire"),
        Step(
            "Plug, then a stale start.", 101, start(1, "A1"), (Result.EXPIRED,), ({"do": "plug", "gun": 1},), age_s=600
        ),
    ]
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text):
        patch.setattr(demo, "story", lambda site: [replace(step, settle_s=0.1) for step in steps])
        patch.setattr(demo, "SETTLE_S", 0.7)
        code = demo.run(115_200, tmp_path_factory.mktemp("demo"))
    return code, text.getvalue()


def test_a_story_with_wrong_outcomes_exits_1_and_marks_each(told: tuple[int, str]) -> None:
    code, text = told
    assert code == 1
    assert "2 of 5 steps as expected" in text
    marks = re.findall(r"^10\d +(.+?[.?])  .*  (wrong|as expected)$", text, re.MULTILINE)
    assert marks == [
        ("How is the pile?", "as expected"),
        ("Wrong reply.", "wrong"),
        ("Too many.", "wrong"),
        ("Failing check.", "wrong"),
        ("Plug, then a stale start.", "as expected"),
    ]


def test_it_says_what_was_not_as_expected(told: tuple[int, str]) -> None:
    _, text = told
    assert re.findall(r"NOT AS EXPECTED: (.*)", text) == [
        "replies OK, expected BUSY",
        "replies OK, expected OK, OK",
        "the board is on fire",
    ]


def test_it_tells_lines_replies_and_what_the_board_did(told: tuple[int, str]) -> None:
    _, text = told
    assert re.search(rf"platform +▶ 127\.0\.0\.1,API:2\.0\.2,100,\d{{13}},{PILE}\n", text)
    assert re.search(r"pile +◀ 100 OK  uptime_s=\d+ guns=1/1; 2/1\n", text)
    assert re.search(r"board +gun 1: plug in\n", text)
    assert re.search(r"pile +◀ 101 EXPIRED  timestamp = \d+: older than 120 s\n", text)


def test_a_dead_agent_does_not_hold_the_demo_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Site(tmp_path) as site:
        site.config_file.write_text("")
        assert not Demo(site, Teller()).warm_up()
    assert "the agent ended with exit code 78" in capsys.readouterr().out


# ---- frames in words ----


@pytest.mark.parametrize(
    ("frame", "is_request", "words"),
    [
        ("01 04 00 3c 00 44 30 35", True, "read 68 input registers of unit 1 from 0x003C"),
        ("01 03 00 10 00 02 c5 ce", True, "read 2 holding registers of unit 1 from 0x0010"),
        ("01 01 00 00 00 08 3d cc", True, "read 8 coils of unit 1 from 0x0000"),
        ("01 03 04 00 01 00 02 2a 32", False, "unit 1 answers 2 registers"),
        ("01 01 01 05 91 8b", False, "unit 1 answers bits"),
        ("01 06 00 00 00 0a 09 cd", True, "write 0x000A to 0x0000 of unit 1"),
        ("01 06 00 00 00 0a 09 cd", False, "unit 1 has written"),
        ("01 10 00 02 00 02 04 6b 02 e2 ba 06 81", True, "write 2 registers of unit 1 from 0x0002"),
        ("01 10 00 02 00 02 e0 08", False, "unit 1 has written"),
        ("01 84 02 c2 c1", False, "unit 1 refuses function 4: exception 2"),
        ("01 2b 0e 01 00 70 77", True, "function 43 to unit 1"),
        ("01 03", False, "not a frame"),
        ("", True, "not a frame"),
    ],
)
def test_a_frame_in_words(frame: str, is_request: bool, words: str) -> None:
    assert describe(bytes.fromhex(frame), is_request) == words


def test_a_long_frame_is_cut_in_its_middle() -> None:
    assert hexadecimal(bytes.fromhex("01 84 02 c2 c1")) == "01 84 02 c2 c1"
    assert hexadecimal(bytes(range(40))) == "00 01 02 03 04 05 06 .. 23 24 25 26 27 (40 bytes)"
