-- meta 'redo': the stamp of this state of tree.db, 16 random bytes, another one with each commit. Records of the redo log
-- (tree.db-redo) count on top of the state whose stamp they bear. A program that does not know the log would lose them.
INSERT INTO meta (key, value) VALUES ('redo', zeroblob(16));
