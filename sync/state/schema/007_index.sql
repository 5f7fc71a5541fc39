-- Siblings of one directory: their names depend on each other, so they are derived together.
CREATE INDEX shown_sibling ON shown (parent) WHERE sibling = 1;

-- Records that change no path (retired, succeeds, remark, and types this program does not know): kept as they came.
CREATE TABLE other_record (
    machine INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    record  BLOB NOT NULL,
    PRIMARY KEY (machine, seq)
) STRICT, WITHOUT ROWID;
