-- Format 2 adds what proofs are read from and the log's own signed heads. Both follow from the log.

-- Roots of complete subtrees of 256^level entries, so that a proof reads a few hundred hashes and not all.
CREATE TABLE node (
  level INTEGER NOT NULL CHECK (level BETWEEN 1 AND 7),
  i     INTEGER NOT NULL,
  hash  BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, i)
) STRICT, WITHOUT ROWID;

-- Signed notes (C2SP tlog-checkpoint), newest last. `kept` ones are never thinned out.
CREATE TABLE checkpoint (
  size INTEGER PRIMARY KEY,
  note BLOB NOT NULL,
  kept INTEGER NOT NULL CHECK (kept IN (0, 1))
) STRICT;
