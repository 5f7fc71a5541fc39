-- Singletons of the mount. Keys: schema, fleet_epoch (of the fleet.db this was written against), boot_id, next_ino (odd),
-- taken_upto (answers noted), feed_cursor.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
