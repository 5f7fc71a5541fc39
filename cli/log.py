"""tcfs log"""

import click

from cli.app import App, never_empty, verb
from cli.render import size_text, table, time_text


@verb("log")
@click.argument("path", callback=never_empty())
def command(app: App, path: str) -> None:
    """List the known versions of PATH, the newest first.

    '*' marks those that nothing supersedes.
    """
    from sync.machines.places import find_place, meanings
    from sync.reports.history import versions

    with app.state() as state:
        place = find_place(meanings(state.config, path, app.cwd), path, state.is_known_path)
        found = versions(state, state.versioned_path(place))
    rows = [
        ["*" if item["is_head"] else " ", item["name"], time_text(item["written_at"]), _what(item)] for item in found
    ]
    app.out.data({"path": place, "versions": found}, table(rows))


def _what(item: dict[str, object]) -> str:
    if item["is_removal"]:
        return f"moved to {item['moved_to']}" if item["moved_to"] else "removed"
    origin = f", moved from {item['moved_from']}" if item["moved_from"] else ""
    size = f", {size_text(int(str(item['size'])))}" if item["kind"] == "file" else ""
    return f"{item['kind']}{size}{origin}"
