"""tcfs dehydrate, also called unsync"""

import click

from cli.app import App, finish, verb
from cli.render import plural, size_text


@verb("dehydrate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def command(app: App, paths: tuple[str, ...]) -> int:
    """Free the local content of files that is verifiably in the store; they stay visible and come back when read."""
    data = app.call("dehydrate", paths=list(paths), cwd=app.cwd)
    return finish(app, data, [f"{plural(data['files'], 'file')} dehydrated, {size_text(data['bytes'])} freed"])
