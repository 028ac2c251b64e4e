-- A journal of schema 1 (release 0.1.0), as every later release must be able to take it over. Never edited.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 0x70696C65;
PRAGMA user_version = 1;

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

-- What release 0.1.0 left behind: a finished start, an accepted stop, its reply undelivered, one message delivered before.
INSERT INTO inbox (id, key, command, at_ms, line, result, body) VALUES
    (1, x'aa01', 101, 1700000000000, NULL, 0, '1,ORDER1,4'),
    (2, x'aa02', 101, 1700000060000, x'3130312c73746f70', 1, '');
INSERT INTO outbox (id, topic, payload, at_ms) VALUES (1, 'klc/reply/qik/P1', x'64656c697665726564', 1700000000001);
DELETE FROM outbox;
INSERT INTO outbox (id, topic, payload, at_ms) VALUES (2, 'klc/reply/qik/P1', x'6163636570746564', 1700000060001);
INSERT INTO state (key, value) VALUES ('gun/1', '{"order":"ORDER1"}'), ('settings', '{"heartbeat_s":30}');
INSERT INTO records (type, sequence, at_ms, gun, order_number, body) VALUES
    (1, 1, 1700000000000, 1, 'ORDER1', 'U1001,1,1699999000000,1700000000000,500000,507200,7200,3,720,360,1080,0,0,T7,0'),
    (3, 8, 1700000000000, 1, NULL, '4,gun 1; order ORDER1: current flows');
INSERT INTO record_counts (type, stored, last) VALUES (1, 1, 1), (3, 1, 8);
