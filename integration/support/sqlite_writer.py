"""Insert numbers, one a transaction: `sqlite_writer.py FILE MODE NAME COUNT`; prints each when it is in."""

import sqlite3
import sys

file, mode, name, count = sys.argv[1:]
db = sqlite3.connect(file, timeout=60, isolation_level=None)
db.execute(f"PRAGMA journal_mode = {mode}")
db.execute("CREATE TABLE IF NOT EXISTS t (name TEXT, n INTEGER)")
print("ready", flush=True)
for n in range(int(count)):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t VALUES (?, ?)", (name, n))
    db.execute("COMMIT")
    print(n, flush=True)
db.close()
