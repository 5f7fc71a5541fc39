-- What stood at the place before the transaction: JSON [id, kind, size, mode, mtime_ns, version (0 = none), value, checksum
-- of xattrs]; NULL = nothing, or an item of an older program. Who tells others what has changed compares it with shown.
ALTER TABLE feed ADD COLUMN was TEXT;
