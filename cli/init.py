"""tcfs init"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.app import App, verb

if TYPE_CHECKING:
    from sync.machines.identity import Joined


@verb("init", with_fleet=False)
@click.option("--fleet", "fleet_name", metavar="NAME", help="What the fleet is called here (default: default).")
@click.option("--store", metavar="URL", help="Where its objects live: file:///folder or a path.")
@click.option("--name", metavar="MACHINE", help="What this machine is called (default: the host's name).")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Join with another machine's key.")
@click.option("--phrase-stdin", is_flag=True, help="Join with the recovery phrase, read from stdin.")
def command(
    app: App, fleet_name: str | None, store: str | None, name: str | None, key_file: Path | None, phrase_stdin: bool
) -> None:
    """Create a fleet at the store, or join the one that is there.

    To join takes its key: --key-file or --phrase-stdin.
    """
    if key_file is not None and phrase_stdin:
        raise click.UsageError("--key-file and --phrase-stdin exclude each other")
    root = _root(key_file, phrase_stdin)
    joined = become_member(app, store, fleet_name, name, root)
    config = joined.config
    did = "joined" if root is not None else "created"
    data = {
        "fleet": config.name,
        "fleet_id": config.fleet_id,
        "machine": config.machine_name,
        "machine_id": config.machine_id,
        "store": config.store_url,
        "key_file": str(joined.paths.key_file),
        "did": did,
    }
    app.out.data(data, [f"{did} the fleet {config.name} at {config.store_url} as {config.machine_name}"])
    if root is None:
        show_phrase(app, joined)


def become_member(
    app: App, store: str | None, fleet_name: str | None, name: str | None, root: bytes | None
) -> "Joined":
    """Create (root None) or join; what is not given comes from the settings, machine.toml and the host."""
    from sync.machines.identity import create_fleet, host_name, join_fleet
    from sync.state.home import MachineConfig

    url = store if store is not None else app.settings.store or str(app.home.default_store)
    known = app.home.machine()
    wanted = name if name is not None or known is None else known.name
    env, home, host = app.env, app.home, host_name()
    if root is None:
        fleet_name = fleet_name or "default"
        work = create_fleet(env, home, url, fleet_name=fleet_name, machine_name=wanted, host=host)
    else:
        work = join_fleet(env, home, url, root, fleet_name=fleet_name, machine_name=wanted, host=host)
    joined = app.run(work)
    if name is not None:
        home.save_machine(MachineConfig(name))
    return joined


def show_phrase(app: App, joined: "Joined") -> None:
    """Once, and on a terminal only: it is the key to everything."""
    if app.out.as_json or not is_terminal():
        app.out.say(
            f"the key is in {joined.paths.key_file}; 'tcfs key show --phrase' shows it as 24 words: keep a copy"
        )
        return
    words = joined.phrase.split()
    app.out.say(
        "These 24 words are the key of the fleet. Write them down: without them or the key file nobody reads it."
    )
    for start in range(0, len(words), 6):
        app.out.say("    " + " ".join(words[start : start + 6]))


def is_terminal() -> bool:
    return sys.stderr.isatty()


def _root(key_file: Path | None, phrase_stdin: bool) -> bytes | None:
    from sync.core.codec import root_from_phrase
    from sync.state.home import read_key_file

    if key_file is not None:
        return read_key_file(key_file)
    return root_from_phrase(sys.stdin.read()) if phrase_stdin else None
