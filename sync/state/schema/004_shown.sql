-- The tree as it looks here: derived from head by show() and place(), in the same transaction.
-- id is the inode number: 1 = the root, even = given by the engine, odd = taken over from a node of the mount.
-- version is NULL for the root and for directories that are only implied by their content (mode 0755).
-- also: JSON list of further identities whose values NAME covers (equal or merged); NULL = none.
-- sibling = 1: the row shows a head other than NAME's, under the name NAME.MACHINE.conflict; its version tells the path.
-- value: the first 8 bytes (big-endian, signed) of BLAKE3 over JSON of (kind, content_id, target): two rows with equal
-- value hold equal bytes; 0 for directories and the root.
-- xattrs: JSON {name: base64} as merged; NULL = none. ctime_ns, uid, gid are local.
CREATE TABLE shown (
    id       INTEGER PRIMARY KEY,
    parent   INTEGER NOT NULL,
    name     TEXT NOT NULL,
    kind     INTEGER NOT NULL,            -- 1 file, 2 dir, 3 symlink
    size     INTEGER NOT NULL DEFAULT 0,  -- bytes; of a symlink the length of its target
    mode     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    uid      INTEGER,                     -- NULL = the owner of the mount
    gid      INTEGER,
    version  INTEGER,
    value    INTEGER NOT NULL DEFAULT 0,
    also     TEXT,
    sibling  INTEGER NOT NULL DEFAULT 0,
    xattrs   TEXT,
    UNIQUE (parent, name)
) STRICT;
CREATE INDEX shown_version ON shown (version) WHERE sibling = 1;

-- The local, ordered log of places whose heads or shown rows changed: says where to look, never what is there.
-- id is the inode number that stands (or stood) there.
CREATE TABLE feed (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    path   TEXT NOT NULL,
    parent INTEGER NOT NULL,
    name   TEXT NOT NULL,
    id     INTEGER NOT NULL
) STRICT;
