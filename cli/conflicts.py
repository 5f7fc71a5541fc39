"""tcfs conflicts"""

from cli.app import App, verb
from cli.render import time_text


@verb("conflicts")
def command(app: App) -> None:
    """List the paths of which two versions stand against each other."""
    from sync.reports.history import conflicts

    with app.state() as state:
        found = conflicts(state)
    lines = []
    for item in found:
        lines.append(item["path"])
        for version in item["versions"]:
            what = "removed" if version["is_removal"] else version["kind"]
            lines.append(f"    {version['name']}  {time_text(version['written_at'])}  {what}")
    app.out.data({"conflicts": found}, lines)
