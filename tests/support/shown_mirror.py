"""A reader that knows the tree by the feed alone: what the mount is, in small."""

from sync.state.fleet import FleetDb
from sync.state.rows import DIR, ShownRow


class Mirror:
    """Reads again what the feed names, and nothing else."""

    def __init__(self, db: FleetDb) -> None:
        self.db = db
        self.rows: dict[tuple[int, str], ShownRow] = {}
        self.cursor = 0

    def follow(self) -> None:
        for item in self.db.view.feed_after(self.cursor, 100_000):
            self.cursor = item.n
            row = self.db.view.lookup(item.parent, item.name)
            if row is None:
                self.rows.pop((item.parent, item.name), None)
            else:
                self.rows[(item.parent, item.name)] = row

    def tree(self) -> dict[str, ShownRow]:
        found: dict[str, ShownRow] = {}
        waiting = [(1, "")]
        while waiting:
            parent, folder = waiting.pop()
            for row in [row for (above, _), row in self.rows.items() if above == parent]:
                found[folder + row.name] = row
                waiting += [(row.id, folder + row.name + "/")] if row.kind == DIR else []
        return found


def shown_rows(db: FleetDb) -> dict[str, ShownRow]:
    found: dict[str, ShownRow] = {}
    waiting = [(1, "")]
    while waiting:
        parent, folder = waiting.pop()
        for row in db.view.children(parent):
            found[folder + row.name] = row
            waiting += [(row.id, folder + row.name + "/")] if row.kind == DIR else []
    return found
