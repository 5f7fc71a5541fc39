"""tcfs mount"""

import click

from cli.app import App, never_empty, verb


@verb("mount")
@click.argument("mountpoint", required=False, callback=never_empty("leave it out for the one of last time"))
@click.option("--no-kernel-cache", is_flag=True, help="Have the kernel keep nothing, until it is unmounted.")
def command(app: App, mountpoint: str | None, no_kernel_cache: bool) -> None:
    """Mount the fleet, and keep it mounted.

    Starts the daemon if none runs. Returns when the mount answers.
    """
    from cli.processes import call_running, ensure_daemon, mountpoint_of, remember_mount
    from sync.core.errors import TcfsError
    from sync.machines.fuse import why_no_fuse

    if reason := why_no_fuse():
        raise TcfsError(f"nothing can be mounted here: {reason}", hint="'tcfs push' and 'tcfs pull' need no mount")
    place = mountpoint_of(app, mountpoint)
    remember_mount(app, place, no_kernel_cache=no_kernel_cache)
    ensure_daemon(app)
    data = call_running(app, "mount", mountpoint=place, no_kernel_cache=no_kernel_cache)
    app.out.data(data, [f"mounted at {place}"])
