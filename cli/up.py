"""tcfs up"""

import click

from cli.app import App, never_empty, verb
from sync.state.home import FleetConfig

NO_FLEET = FleetConfig(fleet_id="", name="", store_url="", machine_id="", machine_name="")


@verb("up")
@click.argument("mountpoint", required=False, callback=never_empty("leave it out for the one of last time"))
@click.option("--no-kernel-cache", is_flag=True, help="Have the kernel keep nothing, until it is unmounted.")
def command(app: App, mountpoint: str | None, no_kernel_cache: bool) -> None:
    """Start the daemon and mount the fleet.

    Creates a fleet if there is none. Returns when the mount answers.
    """
    from cli.init import become_member, show_phrase
    from cli.processes import call_running, ensure_daemon, mountpoint_of, remember_mount
    from sync.core.errors import AlreadyExists
    from sync.machines.fuse import why_no_fuse

    is_new = not app.home.fleets()
    no_fuse = why_no_fuse()
    if is_new:
        if not no_fuse:  # before anything is made
            mountpoint_of(app, mountpoint, NO_FLEET)
        try:
            created = become_member(app, None, app.settings.fleet, None, None)
        except AlreadyExists:  # by another 'tcfs up' in this moment
            is_new = False
        else:
            app.out.say(f"created the fleet {created.config.name} at {created.config.store_url}")
            show_phrase(app, created)
    place = "" if no_fuse else mountpoint_of(app, mountpoint)
    if place:
        remember_mount(app, place, no_kernel_cache=no_kernel_cache)
    ensure_daemon(app)
    config = app.fleet.load()
    if no_fuse:
        app.out.say(f"warning: no mount, {no_fuse}; 'tcfs push' and 'tcfs pull' do the same on plain folders")
    else:
        call_running(app, "mount", mountpoint=place, no_kernel_cache=no_kernel_cache)
    data = {"fleet": config.name, "machine": config.machine_name, "mountpoint": place, "store": config.store_url}
    where = f"is at {place}" if place else "is not mounted"
    lines = [f"fleet {config.name} {where}, this machine is {config.machine_name}"]
    app.out.data(data, lines + (_next_steps(app, place) if is_new else []))


def _next_steps(app: App, place: str) -> list[str]:
    """What a person who has just made a fleet does next."""
    store, key = app.fleet.load().store_url, app.fleet.key_file
    first = f"copy files into {place}" if place else "'tcfs push FOLDER' puts files into the fleet"
    return [
        f"next: {first}; 'tcfs status' tells what is not safe yet, 'tcfs wait' returns when all is",
        f"another machine that reaches {store} joins with a copy of {key}:",
        f"    tcfs init --store {store} --key-file COPY && tcfs up",
    ]
