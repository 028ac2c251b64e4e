-- On top of journal_v1.sql: what a release with schema 2 might add and still let schema 1 run on.
PRAGMA user_version = 2;
ALTER TABLE outbox ADD COLUMN record INTEGER;
ALTER TABLE records ADD COLUMN checked INTEGER;
CREATE TABLE uploads (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL) STRICT;
INSERT INTO uploads (name) VALUES ('log-1');
