"""Rules of fleet.db of which one statement tells whether they are kept; see check.py for the tree."""

from typing import Final

NEVER: Final = (  # (what must find nothing, the error if it does)
    ("SELECT 1 FROM head WHERE version NOT IN (SELECT num FROM version)", "a head names no version"),
    (
        "SELECT 1 FROM head AS h JOIN version AS v ON v.num = h.version WHERE v.path <> h.path",
        "a head is one of another path",
    ),
    (
        "SELECT 1 FROM shown WHERE version IS NOT NULL AND version NOT IN (SELECT num FROM version)",
        "a row of shown names no version",
    ),
    ("SELECT 1 FROM shown WHERE (id = 1) <> (parent = 0)", "the root of shown is not alone"),
    ("SELECT 1 FROM meta WHERE NOT EXISTS (SELECT 1 FROM shown WHERE id = 1)", "shown has no root"),
    (
        "SELECT 1 FROM shown WHERE id % 2 = 0 AND id >= (SELECT value FROM meta WHERE key = 'next_ino')",
        "a row of shown has a number that will be given again",
    ),
    (
        "SELECT 1 FROM shown WHERE id <> 1 AND id NOT IN (SELECT id FROM feed) AND (SELECT min(n) FROM feed) = 1",
        "a row of shown was never in the feed",
    ),
    (
        "SELECT 1 FROM shown WHERE link_id IS NULL AND (link IS NOT NULL OR nlink <> 1)",
        "a row of shown without a link_id has several names",
    ),
    (
        "SELECT 1 FROM (SELECT count(*) AS n, min(nlink) AS least, max(nlink) AS most, count(link) AS linked,"
        " min(link) AS first, max(link) AS last, max(link = id) AS own FROM shown WHERE link_id IS NOT NULL"
        ' AND sibling = 0 GROUP BY link_id, value, mode, mtime_ns, xattrs, owner, "group")'
        " WHERE least <> n OR most <> n OR linked <> CASE n WHEN 1 THEN 0 ELSE n END"
        " OR (n > 1 AND (first <> last OR own <> 1))",
        "the names of a file do not count, or number, each other",
    ),
    ("SELECT 1 FROM chunk WHERE pack NOT IN (SELECT num FROM pack)", "a chunk lies in no pack"),
    (
        "SELECT 1 FROM outbox AS o WHERE NOT EXISTS (SELECT 1 FROM outbox AS next WHERE next.first = o.last + 1)"
        " AND o.last + 1 <> (SELECT value FROM meta WHERE key = 'next_seq')",
        "the outbox has a gap",
    ),
)
