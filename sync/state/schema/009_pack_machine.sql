-- A pack belongs to the journal that names it: what another machine says of a pack of the same name is another row.
CREATE TABLE pack_of_machine (
    num       INTEGER PRIMARY KEY,
    pack_id   BLOB NOT NULL,
    machine   INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    condemned INTEGER NOT NULL DEFAULT 0,
    UNIQUE (machine, pack_id)
) STRICT;
INSERT INTO pack_of_machine (num, pack_id, machine, size, condemned)
    SELECT num, pack_id, machine, size, condemned FROM pack;
DROP TABLE pack;
ALTER TABLE pack_of_machine RENAME TO pack;
