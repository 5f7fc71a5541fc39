-- The log from the mount to the engine: states frozen for publishing, in the order they are to be published.
-- The engine needs nothing else of tree.db (but span). One un-noted seal an entry and a node at most.
-- Deleted when the engine's answer (taken) is noted.
CREATE TABLE seal (
    ord         INTEGER PRIMARY KEY AUTOINCREMENT,
    seal_id     BLOB NOT NULL UNIQUE,        -- 16 random bytes
    round       INTEGER NOT NULL,            -- seals of one round go out in one batch
    op          TEXT NOT NULL CHECK (op IN ('put', 'remove', 'movedir')),
    path        TEXT NOT NULL,               -- rel_path; of movedir the new one
    from_path   TEXT,                        -- movedir: the old rel_path
    node        INTEGER,                     -- put, movedir: the inode number that shown takes over; NULL: none (lost)
    dir_ids     TEXT NOT NULL DEFAULT '[]',  -- JSON [ids] of the folders above, top first: taken over if one must be made
    kind        INTEGER,
    mode        INTEGER,
    uid         INTEGER,
    gid         INTEGER,
    size        INTEGER,
    mtime_ns    INTEGER,
    ctime_ns    INTEGER,
    target      TEXT,
    xattrs      TEXT,
    base        TEXT,                        -- identity whose bytes show below the layer
    layer       INTEGER,                     -- work.id with the changed bytes; NULL: metadata only
    limit_below INTEGER,
    seen        TEXT NOT NULL DEFAULT '[]',
    last        TEXT,
    resolved    INTEGER NOT NULL DEFAULT 0,
    moved_from  TEXT,                        -- JSON [path, identity]
    moved_to    TEXT                         -- rel_path
) STRICT;
