"""tcfs version"""

from cli.app import App, verb
from sync.ours import VERSION


@verb("version", with_fleet=False)
def command(app: App) -> None:
    """Print the version of this program."""
    app.out.data({"version": VERSION}, [f"tcfs {VERSION}"])
