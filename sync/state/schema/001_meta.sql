-- Singletons of this fleet on this machine. Keys: schema, epoch (random; names this very database file), fleet_id,
-- machine_id, machine_name, next_seq, next_ino (even), confirmed (JSON of the confirmed journal head), tcfsignore,
-- derive_owners (see 017).
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
