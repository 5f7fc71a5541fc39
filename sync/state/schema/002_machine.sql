-- Every machine whose journal we have seen, and our own ids, former ones too (own = 1). num is the short local name used
-- by the other tables. head_* is the journal head last read from the store (0/NULL: none yet).
CREATE TABLE machine (
    num        INTEGER PRIMARY KEY,
    machine_id TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL DEFAULT '',
    verify_key BLOB,
    own        INTEGER NOT NULL DEFAULT 0,
    head_last  INTEGER NOT NULL DEFAULT 0,
    head_first INTEGER NOT NULL DEFAULT 0,
    head_hash  BLOB
) STRICT;

-- Segments that have been applied, ours too. hash = BLAKE3 of the stored bytes, named by the successor.
CREATE TABLE segment (
    machine INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    PRIMARY KEY (machine, first)
) STRICT, WITHOUT ROWID;

-- Segments that should be there and are not, or do not verify: retried at every poll, shown by status and doctor.
CREATE TABLE hole (
    machine INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    since   REAL NOT NULL,     -- wall clock, s
    reason  TEXT NOT NULL,
    PRIMARY KEY (machine, first)
) STRICT, WITHOUT ROWID;
