-- What is queued for the store: the final bytes of segment and journal head, committed with the heads they make.
-- After a crash the same bytes go out again.
CREATE TABLE outbox (
    first    INTEGER PRIMARY KEY,
    last     INTEGER NOT NULL,
    machine  INTEGER NOT NULL,
    segment  BLOB NOT NULL,
    head     BLOB NOT NULL
) STRICT;

-- Answers to seals of the mount. version = identity, for answer 'queued'. Pruned below the mount's durable taken_upto.
CREATE TABLE taken (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,
    seal_id BLOB NOT NULL UNIQUE,
    answer  TEXT NOT NULL CHECK (answer IN ('queued', 'unchanged', 'refused')),
    version TEXT,
    reason  TEXT
) STRICT;

-- Plain folders: what was pushed or pulled last, (local absolute path, rel_path) -> version and the file's stat then.
CREATE TABLE plain (
    local    TEXT NOT NULL,
    remote   TEXT NOT NULL,
    version  TEXT NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ino      INTEGER NOT NULL,
    PRIMARY KEY (local, remote)
) STRICT, WITHOUT ROWID;
