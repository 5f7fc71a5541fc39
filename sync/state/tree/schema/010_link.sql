-- Hard links: several entries may show one node that is no directory. link_id: what tells others so; '' = none yet.
-- Each name has a seal of its own. Those of one file are a group: grp = the seal_id of the first, which the node holds;
-- NULL: the file has one name. They are published together, with one content, or not at all.
ALTER TABLE node ADD COLUMN link_id TEXT NOT NULL DEFAULT '';
ALTER TABLE seal ADD COLUMN link_id TEXT NOT NULL DEFAULT '';
ALTER TABLE seal ADD COLUMN grp BLOB;
