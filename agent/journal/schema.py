"""The journal's tables, and how a file of an older release becomes one of this.

A migration that has been released is never edited: the next one is appended. A release must also run on what its
successor wrote (the launcher may go back to it), so every statement names its columns, and a migration that only adds
leaves ``compatible_from`` alone; one that an older release could not live with raises it in the same script.
"""

import sqlite3

APPLICATION_ID = 0x70696C65  # "pile": a database that is somebody else's is never taken for a damaged journal

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta (key, value) VALUES ('compatible_from', 1);

    -- Commands, for "acts once". Pruned in order of arrival, so the rows are in that order and the key beside them.
    CREATE TABLE inbox (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        command INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        line BLOB,     -- NULL once finally answered
        result INTEGER,  -- NULL until first answered
        body TEXT
    ) STRICT;

    -- AUTOINCREMENT: an id is never given twice, or a late "delivered" would remove another message.
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        payload BLOB NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

    -- Clustered by type and number: a type is read in order without looking at the others, and there is one tree less.
    CREATE TABLE records (
        type INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        gun INTEGER NOT NULL,
        order_number TEXT,  -- NULL: of no order
        body TEXT NOT NULL,
        PRIMARY KEY (type, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX records_of_order ON records (order_number) WHERE order_number IS NOT NULL;
    CREATE TABLE record_counts (type INTEGER PRIMARY KEY, stored INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;
    """,
)

# What is worth carrying out of a damaged file, most needed first, with the columns this release lives on.
SALVAGED = (
    ("state", "key, value"),
    ("outbox", "id, topic, payload, at_ms"),
    ("inbox", "id, key, command, at_ms, line, result, body"),
    ("record_counts", "type, stored, last"),
    ("records", "type, sequence, at_ms, gun, order_number, body"),
)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version the file was last migrated to; 0 for an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def compatible_from(connection: sqlite3.Connection) -> int:
    """The oldest schema version whose code may still open this file; its own version if it does not say."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'compatible_from'").fetchone()
    return int(row[0]) if row else version_of(connection)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file up to ``len(MIGRATIONS)``, one transaction a step; a newer file is left as it is.

    After an error the connection must be closed: that rolls the unfinished step back.
    """
    for version in range(version_of(connection) + 1, len(MIGRATIONS) + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version - 1]}; PRAGMA user_version = {version}; COMMIT")
