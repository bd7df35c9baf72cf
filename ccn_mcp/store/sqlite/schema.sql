-- Format 1 of the embedded store. docs/formats.md explains each table.

-- The log itself. `entry` holds what is hashed; the link to the previous entry is that entry's `leaf`.
CREATE TABLE entry (
  seq        INTEGER PRIMARY KEY,
  time       INTEGER NOT NULL,
  kind       INTEGER NOT NULL,
  leaf       BLOB NOT NULL CHECK (length(leaf) = 32),
  commitment BLOB NOT NULL CHECK (length(commitment) = 32),
  salt       BLOB CHECK (length(salt) = 16),
  body       BLOB,
  blob       BLOB
) STRICT;

-- Identity, head and Merkle frontier, in step with `entry` at every commit.
CREATE TABLE log (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  store_id BLOB NOT NULL CHECK (length(store_id) = 16),
  size     INTEGER NOT NULL,
  leaf     BLOB NOT NULL CHECK (length(leaf) = 32),
  frontier BLOB NOT NULL
) STRICT;

-- Query columns, one row per entry, each a function of the hashed body (domain/projection.py).
CREATE TABLE record (
  seq          INTEGER PRIMARY KEY,
  kind         INTEGER NOT NULL,
  conversation TEXT,
  n            INTEGER,
  subject      TEXT,
  role         TEXT,
  principal    TEXT,
  key          TEXT,
  text         TEXT
) STRICT;
CREATE INDEX record_message ON record (conversation, seq) WHERE kind = 1;
CREATE INDEX record_kind ON record (kind, seq) WHERE kind <> 1;
CREATE INDEX record_subject ON record (subject, kind, seq) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX record_key ON record (principal, key) WHERE key IS NOT NULL;

CREATE TABLE conversation (
  id       TEXT PRIMARY KEY,
  seq      INTEGER NOT NULL UNIQUE,
  scope    TEXT NOT NULL,
  messages INTEGER NOT NULL,
  last_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX conversation_last ON conversation (last_seq);
CREATE INDEX conversation_scope ON conversation (scope, last_seq);

-- `seq` is the instance's newest snapshot, `report` its newest vector report; `seen` is its lease and
-- the only thing in this file that is not a function of the log.
CREATE TABLE instance (
  id     TEXT PRIMARY KEY,
  seq    INTEGER NOT NULL,
  report INTEGER,
  seen   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX instance_seen ON instance (seen);

-- Erased entries that the write-ahead log may still hold: emptied once it is. Not part of the record.
CREATE TABLE erasure (seq INTEGER PRIMARY KEY) STRICT;

CREATE VIEW message_text (seq, text) AS SELECT seq, text FROM record WHERE kind = 1 AND text IS NOT NULL;
CREATE VIRTUAL TABLE message_fts USING fts5 (
  text, content = 'message_text', content_rowid = 'seq', tokenize = 'unicode61 remove_diacritics 2'
);

-- These stop accidents, not attackers; attackers are what the hashes are for.
CREATE TRIGGER entry_in_order BEFORE INSERT ON entry
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq) + 1, 0) FROM entry)
BEGIN
  SELECT RAISE(ABORT, 'ccn: entries are numbered without gaps');
END;

CREATE TRIGGER entry_kept BEFORE DELETE ON entry
BEGIN
  SELECT RAISE(ABORT, 'ccn: entries are never deleted; use ccn-mcp redact');
END;

CREATE TRIGGER entry_unchanged BEFORE UPDATE ON entry
WHEN NOT (
  NEW.salt IS NULL AND NEW.body IS NULL AND NEW.blob IS NULL
  AND NEW.seq = OLD.seq AND NEW.time = OLD.time AND NEW.kind = OLD.kind
  AND NEW.leaf = OLD.leaf AND NEW.commitment = OLD.commitment
  AND OLD.kind <> 6
  AND EXISTS (SELECT 1 FROM record WHERE kind = 6 AND subject = CAST(OLD.seq AS TEXT))
)
BEGIN
  SELECT RAISE(ABORT, 'ccn: entries never change; use ccn-mcp redact');
END;
