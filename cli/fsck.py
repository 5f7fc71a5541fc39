"""tcfs fsck"""

from cli.app import App, finish, verb
from cli.render import plural


@verb("fsck")
def command(app: App) -> int:
    """Check store, heads, tree, overlay and cache against each other. Reads only."""
    data = app.call("fsck")
    lines = [f"{finding['subject']}: {finding['message']}" for finding in data["findings"]]
    checked = ", ".join(plural(count, name) for name, count in data["checked"].items())
    return finish(app, data, [*lines, f"checked {checked}: {plural(len(lines), 'finding')}"])
