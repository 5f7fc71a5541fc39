"""tcfs doctor"""

from cli.app import App, verb


@verb("doctor")
def command(app: App) -> int:
    """Look at FUSE, daemon, store, key and disk; each finding with its remedy."""
    from sync.machines.doctor import examine

    found = app.run(examine(app.env, app.home, app.settings))
    lines = [f"{'ok' if item.is_ok else '!!'}  {item.subject}: {item.message}{_remedy(item.remedy)}" for item in found]
    data = {
        "findings": [
            {"subject": item.subject, "ok": item.is_ok, "message": item.message, "remedy": item.remedy}
            for item in found
        ]
    }
    app.out.data(data, lines)
    return 0 if all(item.is_ok for item in found) else 1


def _remedy(text: str) -> str:
    return f" -> {text}" if text else ""
