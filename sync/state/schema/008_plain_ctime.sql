-- plain.ctime_ns: the local file's change time then; 0 = not known (remembered by an older program).
ALTER TABLE plain ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
