"""tcfs mount"""

import click

from cli.app import App, verb


@verb("mount")
@click.argument("mountpoint", required=False)
def command(app: App, mountpoint: str | None) -> None:
    """Mount the fleet, and keep it mounted; returns when the mount answers."""
    from cli.processes import call_running, ensure_daemon, mountpoint_of
    from sync.core.errors import TcfsError
    from sync.machines.fuse import why_no_fuse

    if reason := why_no_fuse():
        raise TcfsError(f"nothing can be mounted here: {reason}", hint="'tcfs push' and 'tcfs pull' need no mount")
    place = mountpoint_of(app, mountpoint)
    ensure_daemon(app)
    data = call_running(app, "mount", mountpoint=place)
    app.out.data(data, [f"mounted at {place}"])
