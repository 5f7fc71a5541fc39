-- Fifos, sockets and device nodes: nodes of the kinds 4 (fifo), 5 (socket), 6 (character device) and 7 (block device).
-- They stay on this machine: their entries are local_only, or dirty while the removal of what had the name before is
-- still to be published. rdev: of a device, as stat shows it.
ALTER TABLE node ADD COLUMN rdev INTEGER NOT NULL DEFAULT 0;
