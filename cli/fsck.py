"""tcfs fsck"""

from typing import Any

import click

from cli.app import App, finish, verb
from cli.render import plural, size_text


@verb("fsck")
@click.option("--deep", is_flag=True, help="Read every byte of every pack and of the cache.")
def command(app: App, deep: bool) -> int:
    """Check store, heads, tree, overlay and cache against each other. Reads only."""
    data = app.call("fsck", deep=deep)
    lines = [_finding(finding) for finding in data["findings"]]
    lines += [f"not verified: {left}" for left in data["unverified"]]
    return finish(app, data, [*lines, _summary(data["checked"], data["total"])])


def _finding(finding: dict[str, Any]) -> str:
    """One line that names the object and, if they are known, the path and what to do."""
    named = [name for name in (finding["path"], finding["object"]) if name and name not in finding["message"]]
    hint = f" ({finding['hint']})" if finding["hint"] else ""
    return ": ".join([finding["severity"], *named, finding["message"]]) + hint


def _summary(checked: dict[str, int], total: int) -> str:
    parts = [
        plural(checked["objects"], "object"),
        f"{plural(checked['packs'], 'pack')} ({checked['packs_read']} read whole)",
        plural(checked["contents"], "file"),
        f"{plural(checked['cache_verified'], 'cache file')} ({size_text(checked['cache_bytes'])})",
    ]
    return f"checked {', '.join(parts)}: {plural(total, 'finding')}"
