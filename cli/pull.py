"""tcfs pull"""

import click

from cli.app import App, finish, never_empty, say_warnings, verb
from cli.render import plural, size_text


@verb("pull")
@click.argument("remote")
@click.argument("local", default=".", callback=never_empty("'.' is the working directory"))
@click.option("--force", is_flag=True, help="Overwrite local files that differ, also in mode or time.")
def command(app: App, remote: str, local: str, force: bool) -> int:
    """Fetch REMOTE to LOCAL (default: here), as 'cp -r' would."""
    data = app.call("pull", remote=remote, local=local, cwd=app.cwd, force=force, totals=app.out.shows_progress)
    say_warnings(app, data)
    line = f"{plural(data['files'], 'file')} fetched, {size_text(data['bytes'])}, {data['unchanged']} unchanged"
    return finish(app, data, [line])
