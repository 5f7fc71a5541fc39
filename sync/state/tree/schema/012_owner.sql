-- Whose it is in the fleet: names, or decimal numbers, as in a manifest; '' = nobody has said so. uid and gid are those here.
ALTER TABLE node ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN owner_group TEXT NOT NULL DEFAULT '';
ALTER TABLE seal ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE seal ADD COLUMN owner_group TEXT NOT NULL DEFAULT '';
