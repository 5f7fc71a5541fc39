"""tcfs dehydrate, also called unsync"""

import click

from cli.app import App, finish, verb
from cli.render import plural, size_text


@verb("dehydrate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--unpin", is_flag=True, help="Also what is pinned: it is not pinned any more then.")
def command(app: App, paths: tuple[str, ...], unpin: bool) -> int:
    """Free local content that is verifiably in the store.

    The files stay visible, and their content comes back when it is read.
    PATH may be a quoted glob. What is pinned stays (exit 7).
    """
    data = app.call("dehydrate", paths=list(paths), cwd=app.cwd, unpin=unpin)
    line = f"{plural(data['files'], 'file')} dehydrated, {size_text(data['bytes'])} freed"
    if unchanged := data.get("unchanged"):
        line += f", {unchanged} unchanged"
    return finish(app, data, [line])
