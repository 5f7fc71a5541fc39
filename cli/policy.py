"""tcfs policy"""

import click

from cli.app import App, finish, verb
from cli.render import table


@verb("policy")
@click.argument("path", required=False)
@click.argument("word", required=False, metavar="[on-read|on-open|never|always|inherit]")
def command(app: App, path: str | None, word: str | None) -> int:
    """Say, or set, what brings the content of PATH here.

    Without PATH: all that was set.

    \b
    on-read   a read brings what it needs (the default)
    on-open   to open a file brings all of it
    never     only 'tcfs hydrate' does; programs get ENODATA for what is not local
    always    it is kept here: 'tcfs pin'
    inherit   as the folder above

    Of several the word of the nearest folder counts. Words belong to paths of this machine: what is renamed has the
    policy of its new place.
    """
    data = app.call("policy", path=path, word=word, cwd=app.cwd)
    rows = [[item["path"] or "/", item["policy"], _origin(item)] for item in data["policies"]]
    return finish(app, data, table(rows) if rows else [])


def _origin(item: dict[str, str | None]) -> str:
    source = item["source"]
    if source is None:
        return "(by default)"
    return "" if source == item["path"] else f"(of {source or '/'})"
