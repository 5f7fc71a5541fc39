"""tcfs down"""

import click

from cli.app import App, finish, verb


@verb("down")
@click.option("--force", is_flag=True, help="Unmount also while something in the mount is open.")
def command(app: App, force: bool) -> int:
    """Bring what is dirty into the store, unmount, and stop.

    Waits for the store 40 s at most; exit 7 with the list of what stays.
    """
    from cli.processes import await_end, end_other_version, ensure_daemon
    from sync.state.lock import is_held

    end_other_version(app)
    if is_held(app.fleet.mount_lock):
        ensure_daemon(app)  # a mount whose daemon is dead would start one that goes on running
    data = app.call("down", force=force)
    await_end(app)
    return finish(app, data, [f"{item['path']}: {item['reason']}" for item in data["left"]])
