"""What can go wrong with the journal, by consequence.

    JournalError       this transaction did not happen; the next one may (disk full, I/O error, permission)
    ├ JournalBusy      another agent owns the file: this one must not run
    └ JournalTooNew    a newer release wrote it and says ours must not touch it

Misuse (a write outside a transaction, a transaction inside another) is a ``RuntimeError``: a bug, not a condition.
"""

from pathlib import Path


class JournalError(Exception):
    """The journal at ``path`` could not do ``doing``; ``why`` is the system's or SQLite's own sentence."""

    def __init__(self, path: Path, doing: str, why: str) -> None:
        super().__init__(f"journal {path}: cannot {doing}: {why}")
        self.path = path
        self.doing = doing
        self.why = why


class JournalBusy(JournalError):
    """Another process holds the lock beside the journal; ``pid`` is what it wrote there ("" if it wrote nothing)."""

    def __init__(self, path: Path, pid: str) -> None:
        super().__init__(path, "open it", f"another agent (pid {pid or 'unknown'}) is using it")
        self.pid = pid


class JournalTooNew(JournalError):
    """Schema ``found`` of the file is for releases that know schema ``compatible_from``; this one knows ``ours``."""

    def __init__(self, path: Path, found: int, compatible_from: int, ours: int) -> None:
        why = f"its schema {found} needs a release that knows schema {compatible_from}, this one knows {ours}"
        super().__init__(path, "open it", why)
        self.found = found
        self.compatible_from = compatible_from
        self.ours = ours
