"""tcfs cache"""

from typing import Any

import click

from cli.app import App, finish, never_empty, verb
from cli.render import plural, size_text, table


@verb("cache")
@click.argument("action", required=False, type=click.Choice(["ls"]))
@click.argument("path", required=False, callback=never_empty())
def command(app: App, action: str | None, path: str | None) -> int:
    """What of the fleet's content is on this machine.

    'tcfs cache ls [PATH]': of which files.
    """
    asked = (path or "") if action == "ls" else None
    data = app.call("cache", path=asked, cwd=app.cwd if path else "/")
    return finish(app, data, _files(data["files"]) if action == "ls" else _sums(data))


def _sums(data: dict[str, Any]) -> list[str]:
    pins = data["pinned"]
    rows = [
        ["used", f"{size_text(data['used'])} of {size_text(data['quota'])}"],
        ["chunks", str(data["chunks"])],
        ["whole files", str(data["whole"])],
        ["pinned", f"{plural(pins['files'], 'file')}, {size_text(pins['bytes'])}"],
        ["evicted", f"{plural(data['evictions'], 'file')} since the start"],
        ["damaged", f"{plural(data['damaged'], 'file')} found and removed since the start"],
        ["folder", data["folder"]],
    ]
    if pins["lacking_files"]:
        rows.insert(4, ["to come", f"{plural(pins['lacking_files'], 'file')}, {size_text(pins['lacking_bytes'])}"])
    if data["failed_writes"]:
        rows.append(["not written", f"{plural(data['failed_writes'], 'file')}, last: {data['last_error']}"])
    return [*table(rows), *([pins["trouble"]] if pins["trouble"] else [])]


def _files(files: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"{100 * file['local'] // max(file['size'], 1)} %".rjust(5),
            size_text(file["local"]).rjust(10),
            "pinned" if file["pinned"] else "",
            file["path"],
        ]
        for file in files
    ]
    return table(rows) if rows else []
