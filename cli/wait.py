"""tcfs wait"""

import click

from cli.app import App, finish, never_empty, verb


@verb("wait")
@click.argument("path", required=False, callback=never_empty())
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Give up after so many seconds (exit 7).")
def command(app: App, path: str | None, timeout: float | None) -> int:
    """Return when what is dirty now is confirmed in the store.

    With PATH: when that is.
    """
    data = app.call("wait", path=path or "", cwd=app.cwd if path else "/", timeout=timeout)
    for name in data["interrupted"]:
        app.out.say(
            f"not waited for: {name} (the mount died while it, or what was moved from there, was being written)"
        )
    return finish(app, data, [])
