-- On top of journal_v1.sql: what a release with schema 2 might add and still let schema 1 run on.
PRAGMA user_version = 2;
ALTER TABLE outbox ADD COLUMN record INTEGER;
CREATE TABLE records (sequence INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, fields TEXT NOT NULL) STRICT;
INSERT INTO records (type, fields) VALUES (1, 'ORDER1,1');
