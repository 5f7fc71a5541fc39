-- How many folders a folder holds: st_nlink of it.
CREATE INDEX shown_dir ON shown (parent) WHERE kind = 2;
