-- pack.lost: what was seen of the store: 1 = it lacks the pack, 2 = it holds it damaged; 0 = nothing is wrong as far as
-- is known here. What lies in a lost pack counts as stored nowhere: whoever has the bytes puts them again.
ALTER TABLE pack ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
CREATE INDEX pack_lost ON pack (lost) WHERE lost <> 0;
