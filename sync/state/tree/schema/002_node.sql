-- A node that differs from what is shown, or must keep its number. id = inode number: odd if made here, else shown.id.
-- Bytes: base (a version identity) below base_limit, then the sealed layer, then the work file, newest on top.
-- lost_path: not NULL = nameless but to be published under this path (its NAME moved on under an open handle).
CREATE TABLE node (
    id         INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,             -- 1 file, 2 dir, 3 symlink
    mode       INTEGER NOT NULL,
    uid        INTEGER NOT NULL,
    gid        INTEGER NOT NULL,
    size       INTEGER NOT NULL DEFAULT 0,
    atime_ns   INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    target     TEXT NOT NULL DEFAULT '',
    xattrs     TEXT,                         -- JSON {name: base64}; NULL = none
    base       TEXT,                         -- version identity the bytes come from; NULL = none
    layer      INTEGER,                      -- work.id of the sealed layer not yet noted
    work       INTEGER,                      -- work.id of the file being written
    gen        INTEGER NOT NULL DEFAULT 0,   -- grows with each change that would be published
    seal_id    BLOB,                         -- a seal of this node not yet noted
    sealed_gen INTEGER,                      -- the gen that seal froze
    lost_path  TEXT,
    lost_seen  TEXT,                         -- JSON [identities] that a lost node's version has seen
    unflushed  INTEGER NOT NULL DEFAULT 0,   -- written since its last flush or fsync: interrupted, if the mount dies now
    synced     INTEGER NOT NULL DEFAULT 1    -- its bytes are on disk
) STRICT;

-- Local bytes: work/<id as 16 hex, in 256 folders>. limit_below = how many bytes of what lies below still show.
CREATE TABLE work (
    id          INTEGER PRIMARY KEY,
    node        INTEGER NOT NULL,
    sealed      INTEGER NOT NULL DEFAULT 0,
    limit_below INTEGER NOT NULL
) STRICT;

-- Byte ranges [start, end) of a work file that hold data; everything else shows what lies below, or zeros.
CREATE TABLE span (
    work  INTEGER NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    PRIMARY KEY (work, start)
) STRICT, WITHOUT ROWID;
