-- Owners that only this machine knows: of shown rows whose last change here was nothing to publish (chown).
-- id = shown.id. Goes when the row has the same owner, or is gone.
CREATE TABLE owner (
    id  INTEGER PRIMARY KEY,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL
) STRICT;
