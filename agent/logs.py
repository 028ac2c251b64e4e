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
        lines = [line, *self._traceback(record)]
        if self._for_journal:
            mark = f"<{_PRIORITIES.get(record.levelno, 6)}>"
            return "\n".join(mark + one for one in lines)
        return f"time={self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03} " + "\n".join(lines)

    def _traceback(self, record: logging.LogRecord) -> list[str]:
        """Indented, so that no text in it looks like a record."""
        text = self.formatException(record.exc_info) if record.exc_info else ""
        return [f"    {_printable(one)}" for one in text.splitlines()]


def set_up(level: str) -> None:
    """Log to stderr from ``level`` (debug, info, warning, error) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(_is_journal(sys.stderr.fileno())))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _is_journal(fd: int) -> bool:
    """Whether the file is systemd's journal: ``$JOURNAL_STREAM`` names its device and inode, and is inherited by
    processes that write elsewhere."""
    stream = os.fstat(fd)
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def _printable(text: str) -> str:
    """Nothing that came over a wire may start a line of its own in the log."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
