"""``pile-agent selftest``: could this release run here? Asked of a new one before anything is replaced by it."""

import faulthandler
import importlib
import pkgutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import agent
import firmware_bridge
from agent.cli.exits import FAILED, OK
from agent.config import Config, load_config
from agent.journal import Journal, schema
from agent.power.profile import PROFILES, ProfileError, load_profile
from agent.version import VERSION

LIMIT_S = 100.0  # then it says where it hangs, and fails; the installer waits a little longer
SERVER_SIDE = ("firmware_bridge.keys", "firmware_bridge.maker", "firmware_bridge.repository", "agent.cli.bundle")


class UnfitError(Exception):
    """This release must not run here; says why."""


def selftest(path: Path | None, release: str | None) -> int:
    """Print one line: what is good, or the first thing that is not. ``release``: the version it was signed as.

    Raises ConfigError for a configuration that this release can't use.
    """
    faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=2)
    try:
        modules = _import_everything()
        profiles = _load_profiles()
        _check_version(release)
        oldest = _open_a_journal()
        if path is not None:
            _check_way_back(load_config(path), oldest)
    except (UnfitError, ImportError, ProfileError, sqlite3.Error, OSError) as error:
        print(f"pile-agent {VERSION} can't run here: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    finally:
        faulthandler.cancel_dump_traceback_later()
    used = f"journal, {path}" if path else "journal"
    print(f"pile-agent {VERSION} can run here: {modules} modules, {profiles} profiles, {used}")
    return OK


def _import_everything() -> int:
    """Every module that may be needed, the rarely used ones too: a file that is missing shows here, not in a charge."""
    packages = (agent, firmware_bridge)
    names = [
        module.name
        for package in packages
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if module.name not in SERVER_SIDE
    ]
    for name in [*names, "cext.message", "cext.rtu"]:
        importlib.import_module(name)
    return len(names) + 2


def _load_profiles() -> int:
    names = sorted(path.stem for path in PROFILES.glob("*.toml"))
    if not names:
        raise UnfitError(f"no device profile in {PROFILES}")
    for name in names:
        load_profile(name)
    return len(names)


def _check_version(release: str | None) -> None:
    """On trial the agent knows itself by its version: one that is signed under another would never be committed."""
    if release is not None and release != VERSION:
        raise UnfitError(f"it was signed as {release!r}")


def _open_a_journal() -> int:
    """Write a scratch journal; the oldest schema whose release may open what this one writes."""
    with tempfile.TemporaryDirectory(prefix="pile-agent-") as folder:
        path = Path(folder) / "journal.db"
        with closing(Journal.open(path, 0)) as journal, journal.transaction():
            journal.put("selftest", VERSION)
        with closing(sqlite3.connect(path)) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                raise UnfitError(f"SQLite keeps its journal as {mode!r}, expected 'wal'")
            return schema.compatible_from(connection)


def _check_way_back(config: Config, oldest: int) -> None:
    """The release that runs now must be able to go on with what this one writes, should this one be rolled back."""
    if not config.journal.exists():
        return
    with closing(sqlite3.connect(f"file:{config.journal}?mode=ro", uri=True)) as connection:
        schema_now = schema.version_of(connection)
    if schema_now < oldest:
        raise UnfitError(f"its journal needs schema {oldest}, the one here has {schema_now}: no way back")
