-- pack.seq: the number of the journal's record that names the pack; NULL = an older program has not kept it.
ALTER TABLE pack ADD COLUMN seq INTEGER;
CREATE INDEX pack_record ON pack (machine, seq);
