-- On top of journal_v1.sql: what a release with schema 2 might change that schema 1 can't run on.
PRAGMA user_version = 2;
UPDATE meta SET value = 2 WHERE key = 'compatible_from';
ALTER TABLE outbox RENAME TO messages;
