-- Folders that were removed here while rows below them are still to be published, and those that such ones were in.
-- Where they were: folder and name. name '' = what the engine still has in the folder hangs below `parent` by now, and
-- moves with that. Goes when nothing hangs below it any more.
CREATE TABLE gone (
    dir_id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    name   TEXT NOT NULL
) STRICT;
