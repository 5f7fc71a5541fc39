"""tcfs cp"""

import click

from cli.app import NAMED_MAX, App, finish, never_empty, say_left_out, verb
from cli.render import plural, shortened, size_text


@verb("cp")
@click.argument("sources", nargs=-1, required=True, metavar="SRC…")
@click.argument("target", metavar="DST", callback=never_empty())
@click.option("-r", "-R", "--recursive", is_flag=True, help="Folders with all that is in them.")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
@click.option("-p", "--preserve", is_flag=True, help="Keep the times.")
def command(app: App, sources: tuple[str, ...], target: str, recursive: bool, force: bool, preserve: bool) -> int:
    """Copy inside the fleet without moving any content.

    What is not local is copied, too. As cp does: into DST if that is a folder, else under that name. Whatever stands
    there is not replaced (exit 6) without --force. What is kept on this machine only is left out, and named.
    """
    data = app.call(
        "cp",
        sources=list(sources),
        target=target,
        cwd=app.cwd,
        recursive=recursive,
        force=force,
        preserve=preserve,
    )
    say_left_out(app, data.get("skipped", []))
    copied = f"{plural(data['files'], 'file')} copied by reference, {size_text(data['bytes'])}"
    return finish(app, data, [f"{copied}, to {'; '.join(map(shortened, data['targets'][:NAMED_MAX]))}"])
