"""tcfs doctor"""

from cli.app import App, verb
from cli.render import plural


@verb("doctor")
def command(app: App) -> int:
    """Look for what is wrong on this machine, and say what helps.

    Looks at FUSE, key, daemon, mount, databases, store, disks and policies. Exit 1 if anything is wrong.
    """
    from sync.core.errors import TcfsError
    from sync.machines.doctor import examine

    found = app.run(examine(app.env, app.home, app.settings))
    lines = [f"{'ok' if item.is_ok else '!!'}  {item.subject}: {item.message}{_remedy(item.remedy)}" for item in found]
    data = {
        "findings": [
            {"subject": item.subject, "ok": item.is_ok, "message": item.message, "remedy": item.remedy}
            for item in found
        ]
    }
    wrong = [item for item in found if not item.is_ok]
    if not wrong:
        app.out.data(data, lines)
        return 0
    text = f"{plural(len(wrong), 'finding')}; the first: {wrong[0].subject}: {wrong[0].message}"
    return app.out.failed(TcfsError(text, hint=wrong[0].remedy), data, lines)


def _remedy(text: str) -> str:
    return f" -> {text}" if text else ""
