-- Whose it is in the fleet: names, or decimal numbers, of the version, as merged; '' = it does not say. What stat shows of
-- them is up to the mount (sync_ownership); uid and gid are local.
ALTER TABLE shown ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE shown ADD COLUMN "group" TEXT NOT NULL DEFAULT '';
-- What newer programs have written before this one came.
UPDATE shown SET (owner, "group") = (
    SELECT coalesce(json_extract(CAST(v.record AS TEXT), '$.owner'), ''),
        coalesce(json_extract(CAST(v.record AS TEXT), '$.group'), '')
    FROM version AS v WHERE v.num = shown.version
) WHERE version IN (
    SELECT num FROM version
    WHERE instr(record, CAST('"owner":"' AS BLOB)) > 0 OR instr(record, CAST('"group":"' AS BLOB)) > 0
);
