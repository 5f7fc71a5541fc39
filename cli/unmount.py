"""tcfs unmount"""

import click

from cli.app import App, verb


@verb("unmount")
@click.option("--force", is_flag=True, help="Also while something in it is open.")
def command(app: App, force: bool) -> None:
    """Take the mount away; the daemon goes on."""
    from cli.processes import ensure_daemon
    from sync.state.lock import is_held

    if is_held(app.fleet.mount_lock):
        ensure_daemon(app)  # a mount whose daemon is dead would start one that mounts again
    data = app.call("unmount", force=force)
    where = data["mountpoint"]
    app.out.data(data, [f"{where} is unmounted" if where else "nothing was mounted"])
