"""tcfs config show"""

import click

from cli.app import App, verb
from cli.render import table


@click.group("config", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """The settings of this machine."""


@verb("show", with_fleet=False)
@click.option("--origin", is_flag=True, help="Also say where each value comes from.")
def show(app: App, origin: bool) -> None:
    """Print every setting as it counts now.

    That is: from a flag, a TCFS_* variable, config.toml or the default.
    """
    resolved = list(app.settings.resolved.values())
    data = {item.name: {"value": item.value, "origin": item.origin} if origin else item.value for item in resolved}
    rows = [[item.name, _text(item.value), *([item.origin] if origin else [])] for item in resolved]
    app.out.data(data, table(rows))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # as config.toml has it
    return ", ".join(value) if isinstance(value, tuple) else str(value)


command.add_command(show)
