"""Logs on stderr: ``level=info room=link msg="…"``; under systemd with the journal's priority, else with the time."""

import logging
import os
import sys

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Formatter(logging.Formatter):
    """One line a record; a traceback follows on lines of its own."""

    def __init__(self, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        room = record.name.removeprefix("agent.").split(".", 1)[0]
        text = record.getMessage().replace("\\", "\\\\").replace('"', '\\"')
        line = f'level={record.levelname.lower()} room={room} msg="{_printable(text)}"'
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if self._for_journal:
            mark = f"<{_PRIORITIES.get(record.levelno, 6)}>"
            return "\n".join(mark + part for part in line.splitlines())
        return f"time={self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03} {line}"


def set_up(level: str) -> None:
    """Log to stderr from ``level`` (debug, info, warning, error) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _printable(text: str) -> str:
    """Nothing that came over a wire may start a line of its own in the log."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
