"""tcfs key show"""

import click

from cli.app import App, verb


@click.group("key", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """The key of the fleet."""


@verb("show")
@click.option("--phrase", is_flag=True, help="As the 24 words of the recovery phrase.")
def show(app: App, phrase: bool) -> None:
    """Print the fleet's key: whoever has it can read everything.

    It is what a new machine needs to join.
    """
    from sync.core.codec import phrase_from_root

    root = app.fleet.read_key()
    text = phrase_from_root(root) if phrase else root.hex()
    app.out.data({"phrase" if phrase else "key": text, "file": str(app.fleet.key_file)}, [text])


command.add_command(show)
