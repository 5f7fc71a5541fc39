-- Times that only this machine knows: of shown folders, moved by an entry that came or went here, and the ctime of shown
-- files whose last change here was nothing to publish. id = shown.id. version = shown.version then, 0 = none.
-- Goes when shown has a later change of the same thing, or no such row any more.
CREATE TABLE local_time (
    id       INTEGER PRIMARY KEY,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    version  INTEGER NOT NULL
) STRICT;
