"""The log: one record a line, whatever is in it."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from agent import logs

Read = Callable[[], str]


@pytest.fixture
def log(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Read]]:
    """Sets the log up for a level; what it gives reads stderr, once."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)

    def set_up(level: str) -> Read:
        logs.set_up(level)
        return lambda: capfd.readouterr().err

    yield set_up
    root.handlers[:], root.level = handlers, level


def test_a_record_has_its_time_level_and_room(log: Callable[[str], Read]) -> None:
    read = log("info")
    logging.getLogger("agent.link.link").warning("lost %s", "broker:1883")
    assert re.fullmatch(
        r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} level=warning room=link msg="lost broker:1883"\n', read()
    )


def test_nothing_below_the_level_is_logged(log: Callable[[str], Read]) -> None:
    read = log("warning")
    logging.getLogger("agent.desk").info("not this")
    logging.getLogger("agent.desk").error("but this")
    (line,) = read().splitlines()
    assert "but this" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nlevel=error", r"a\x0alevel=error"),
        ("a\r\x0b\x0c\x1b[31m", r"a\x0d\x0b\x0c\x1b[31m"),
        ("a\x85b\u2028c", r"a\x85b\x2028c"),
        ('say "hi" \\', r"say \"hi\" \\"),
        ("快乐充", "快乐充"),
    ],
)
def test_no_text_can_start_a_line_of_its_own(log: Callable[[str], Read], text: str, shown: str) -> None:
    read = log("info")
    logging.getLogger("agent.desk").info("%s", text)
    (line,) = read().splitlines()
    assert line.endswith(f'msg="{shown}"')


def test_a_traceback_is_indented_and_can_start_no_record_either(log: Callable[[str], Read]) -> None:
    read = log("info")
    try:
        raise ValueError("from the wire\nlevel=info room=desk msg=forged \x1b")
    except ValueError:
        logging.getLogger("agent.desk").exception("failed")
    first, *traceback = read().splitlines()
    assert first.endswith('level=error room=desk msg="failed"')
    assert traceback[0] == "    Traceback (most recent call last):"
    assert traceback[-1] == r"    level=info room=desk msg=forged \x1b"
    assert all(line.startswith("    ") for line in traceback)


def test_for_the_journal_each_line_has_its_priority_and_no_time(
    log: Callable[[str], Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = os.fstat(sys.stderr.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
    read = log("debug")
    room = logging.getLogger("agent.power.bus")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        room.log(level, "x")
    assert read() == (
        '<7>level=debug room=power msg="x"\n'
        '<6>level=info room=power msg="x"\n'
        '<4>level=warning room=power msg="x"\n'
        '<3>level=error room=power msg="x"\n'
        '<2>level=critical room=power msg="x"\n'
    )


def test_a_traceback_in_the_journal_keeps_its_priority_on_every_line(
    log: Callable[[str], Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = os.fstat(sys.stderr.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
    read = log("info")
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("agent.desk").exception("failed")
    assert all(line.startswith("<3>") for line in read().splitlines())


def test_a_journal_that_is_not_our_stderr_is_none(log: Callable[[str], Read], monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell under systemd hands the variable on to what it starts with its output in a file."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    read = log("info")
    logging.getLogger("agent.desk").info("x")
    assert read().startswith("time=")
