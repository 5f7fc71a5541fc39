-- Every version known, superseded ones too (tcfs log). record = the journal line's bytes as they came.
-- The identity is machine_id:seq:hash, with hash as a 32-bit number here and 8 hex digits in text.
CREATE TABLE version (
    num     INTEGER PRIMARY KEY,
    machine INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    hash    INTEGER NOT NULL,
    path    TEXT NOT NULL,
    record  BLOB NOT NULL,
    UNIQUE (machine, seq, hash)
) STRICT;
CREATE INDEX version_path ON version (path);

-- The heads of each path: versions that no other known version supersedes. dead = 1 for tombstones.
CREATE TABLE head (
    path    TEXT NOT NULL,
    version INTEGER NOT NULL,
    dead    INTEGER NOT NULL,
    PRIMARY KEY (path, version)
) STRICT, WITHOUT ROWID;

-- Tombstones of a batch that has a hole before them: they wait until the run of seqs is whole.
CREATE TABLE held_back (
    machine INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    first   INTEGER NOT NULL,   -- the batch's first and last seq
    last    INTEGER NOT NULL,
    since   REAL NOT NULL,
    record  BLOB NOT NULL,
    PRIMARY KEY (machine, seq)
) STRICT, WITHOUT ROWID;

-- After a fork: what an old own version is called now. Read through for base, seen, answers and plain.
CREATE TABLE renamed_version (
    old TEXT PRIMARY KEY,
    new TEXT NOT NULL
) STRICT, WITHOUT ROWID;
