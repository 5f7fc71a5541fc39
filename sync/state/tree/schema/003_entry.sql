-- Names where this machine differs from what is shown. node NULL = a whiteout (the name is absent).
-- seen: JSON [identities] that NAME showed when the entry became dirty, plus the versions since published from it.
-- last: identity of the last version published from this entry, else what NAME showed (NULL: it was absent).
-- gen grows with each change of the entry; sealed_gen = the gen that the un-noted seal froze.
-- moved_from: rel_path and version the node was based on before a rename, JSON [path, identity].
-- moved_node: of a whiteout left by a rename, the node that went elsewhere: not sealed before that one is.
-- origin: of a renamed shown directory, its rel_path before: not NULL until the movedir is noted.
CREATE TABLE entry (
    parent     INTEGER NOT NULL,
    name       TEXT NOT NULL,
    node       INTEGER,
    dirty      INTEGER NOT NULL DEFAULT 1,
    local_only INTEGER NOT NULL DEFAULT 0,
    resolved   INTEGER NOT NULL DEFAULT 0,
    seen       TEXT NOT NULL DEFAULT '[]',
    last       TEXT,
    gen        INTEGER NOT NULL DEFAULT 1,
    seal_id    BLOB,
    sealed_gen INTEGER,
    moved_from TEXT,
    moved_to   TEXT,
    moved_node INTEGER,
    origin     TEXT,
    PRIMARY KEY (parent, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_node ON entry (node);

-- Shown directories that have overlay rows below them: re-attached by path under another fleet_epoch.
CREATE TABLE attach (
    dir_id INTEGER PRIMARY KEY,
    path   TEXT NOT NULL
) STRICT;
