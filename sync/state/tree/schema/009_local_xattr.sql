-- Extended attributes that stay on this machine: trusted.*, security.*, POSIX ACLs. names: JSON {name: base64}.
-- id = inode number: of a node, else shown.id. Goes with what has that number.
CREATE TABLE local_xattr (
    id    INTEGER PRIMARY KEY,
    names TEXT NOT NULL
) STRICT;
