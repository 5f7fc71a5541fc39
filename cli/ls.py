"""tcfs ls"""

import stat
from typing import Any

import click

from cli.app import App, never_empty, verb
from cli.render import table, time_text

_TYPES = {"dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "file": stat.S_IFREG}


@verb("ls")
@click.argument("remote", required=False, callback=never_empty())
@click.option("-l", "long", is_flag=True, help="With mode, size and time.")
def command(app: App, remote: str | None, long: bool) -> None:
    """List what the fleet has at REMOTE (default: its root).

    That is: as far as this machine knows.
    """
    from sync.machines.places import find_place, meanings
    from sync.reports.listing import listing

    with app.state() as state:
        place = find_place(meanings(state.config, remote, app.cwd), remote, state.is_shown) if remote else ""
        entries = listing(state, place)
    lines = table([_long(entry) for entry in entries]) if long else [entry["name"] for entry in entries]
    app.out.data({"path": place, "entries": entries}, lines)


def _long(entry: dict[str, Any]) -> list[str]:
    name = f"{entry['name']} -> {entry['target']}" if entry["target"] else entry["name"]
    mode = stat.filemode(_TYPES[entry["kind"]] | entry["mode"])
    return [mode, str(entry["size"]).rjust(12), time_text(entry["mtime_ns"] // 10**9), name]
