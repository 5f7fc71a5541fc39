"""tcfs version"""

from cli.app import App, verb


@verb("version", with_fleet=False)
def command(app: App) -> None:
    """Print the version of this program."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("tcfs")
    except PackageNotFoundError:
        number = "unknown"
    app.out.data({"version": number}, [f"tcfs {number}"])
