-- Packs named by a journal's pack record, and where chunks lie in them. condemned: not to be referred to any more.
CREATE TABLE pack (
    num       INTEGER PRIMARY KEY,
    pack_id   BLOB NOT NULL UNIQUE,
    machine   INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    condemned INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE chunk (
    chunk_id   BLOB NOT NULL,
    pack       INTEGER NOT NULL,
    offset     INTEGER NOT NULL,
    length     INTEGER NOT NULL,   -- encoded, bytes
    raw_length INTEGER NOT NULL,   -- plain, bytes
    flags      INTEGER NOT NULL,   -- 1 = zstd
    PRIMARY KEY (chunk_id, pack)
) STRICT, WITHOUT ROWID;
CREATE INDEX chunk_place ON chunk (pack, offset);

-- Pages of chunk lists once fetched (manifests with chunk_pages): page id -> JSON [[hex, size], ...].
CREATE TABLE chunk_page (
    page_id BLOB PRIMARY KEY,
    entries BLOB NOT NULL
) STRICT, WITHOUT ROWID;
