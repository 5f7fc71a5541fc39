-- 016 knew one version of each row, but heads of a path are merged, and names of one file agree in owner and group, too.
-- FleetDb.open derives such rows again, and takes this key away, in one transaction.
INSERT INTO meta SELECT 'derive_owners', 1 WHERE EXISTS (
    SELECT 1 FROM version
    WHERE instr(record, CAST('"owner":"' AS BLOB)) > 0 OR instr(record, CAST('"group":"' AS BLOB)) > 0
);
