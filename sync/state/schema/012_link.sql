-- Hard links: names whose versions carry one link_id are one file while content, mode, mtime and xattrs agree.
-- link_id: that of the version, as merged; NULL = none. Of such a file with several names (nlink) each row has in `link`
-- the inode number of all, which is the id of one of them; NULL = the row's own id, and nlink is 1.
ALTER TABLE shown ADD COLUMN link_id TEXT;
ALTER TABLE shown ADD COLUMN link INTEGER;
ALTER TABLE shown ADD COLUMN nlink INTEGER NOT NULL DEFAULT 1;
CREATE INDEX shown_link ON shown (link_id) WHERE link_id IS NOT NULL;
-- What newer programs have written before this one came.
UPDATE shown SET link_id = (
    SELECT nullif(json_extract(CAST(v.record AS TEXT), '$.link_id'), '') FROM version AS v WHERE v.num = shown.version
) WHERE sibling = 0 AND kind <> 2 AND version IN (
    SELECT num FROM version WHERE instr(record, CAST('"link_id":"' AS BLOB)) > 0
);
UPDATE shown SET
    nlink = (SELECT count(*) FROM shown AS o WHERE o.link_id = shown.link_id AND o.value = shown.value
        AND o.mode = shown.mode AND o.mtime_ns = shown.mtime_ns AND o.xattrs IS shown.xattrs),
    link = (SELECT min(o.id) FROM shown AS o WHERE o.link_id = shown.link_id AND o.value = shown.value
        AND o.mode = shown.mode AND o.mtime_ns = shown.mtime_ns AND o.xattrs IS shown.xattrs)
WHERE link_id IS NOT NULL;
UPDATE shown SET link = NULL WHERE link_id IS NOT NULL AND nlink = 1;
