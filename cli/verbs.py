"""The command line. Each verb is one file of this package, imported when it is called."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cli.render import Out
from sync.interpreter import calm_interpreter

if TYPE_CHECKING:
    from sync.core.errors import TcfsError

# verb -> module: nothing is imported before it is needed, so that a short verb starts fast
VERBS = {
    "cache": "cli.cache",
    "config": "cli.config",
    "conflicts": "cli.conflicts",
    "cp": "cli.cp",
    "dehydrate": "cli.dehydrate",
    "doctor": "cli.doctor",
    "down": "cli.down",
    "fsck": "cli.fsck",
    "hydrate": "cli.hydrate",
    "init": "cli.init",
    "key": "cli.key",
    "log": "cli.log",
    "ls": "cli.ls",
    "mount": "cli.mount",
    "pin": "cli.pin",
    "policy": "cli.policy",
    "pull": "cli.pull",
    "push": "cli.push",
    "status": "cli.status",
    "unmount": "cli.unmount",
    "unpin": "cli.unpin",
    "unsync": "cli.dehydrate",
    "up": "cli.up",
    "version": "cli.version",
    "watch": "cli.watch",
    "wait": "cli.wait",
}
HIDDEN = frozenset({"unsync"})


class Verbs(click.Group):
    """The group of all verbs; loads the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS.keys() - HIDDEN)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name]).command
        return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def tcfs(ctx: click.Context, as_json: bool) -> None:
    """A file system for a fleet of machines: every file of every machine, hydrated on demand."""
    from cli.app import App

    app = ctx.obj = App(os.environ, Out(as_json))
    ctx.call_on_close(app.close)


def main(argv: list[str] | None = None) -> None:
    """Runs one verb and exits with its code: see sync.core.errors for the codes of failures."""
    calm_interpreter()
    args = sys.argv[1:] if argv is None else argv
    code = run(args)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 1
    os._exit(code)  # at its exit Python would wait for threads, and one may hang with a store's disk


def run(args: list[str], **extra: Any) -> int:
    """One verb; its exit code. Expected failures are one line on stderr, bugs a traceback."""
    out = Out("--json" in args)
    try:
        code = tcfs.main(args=args, prog_name="tcfs", standalone_mode=False, **extra)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.Abort:
        return out.fail("interrupted", "interrupted", exit_code=130)
    except click.exceptions.NoArgsIsHelpError as error:
        if not out.as_json:
            out.say(error.format_message())
            return 64
        return out.fail("usage", "no verb is given", "see 'tcfs --help'", exit_code=64)
    except click.ClickException as error:
        return out.fail("usage", error.format_message(), _usage_hint(error), exit_code=64)
    except BrokenPipeError:
        # the reader of stdout has gone: nothing is left to say, and flushing at exit would only fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from sync.state.trouble import expected

        known = _removed_cwd(error) or expected(error)
        if known is None:
            raise
        return out.failed(known)
    return code if isinstance(code, int) else 0


def _removed_cwd(error: Exception) -> "TcfsError | None":
    """What it means that the working directory has no name any more: relative paths lead nowhere."""
    from sync.core.errors import NotFound

    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()  # noqa: PTH109
        except FileNotFoundError:
            return NotFound("the working directory has been removed", hint="change to another one")
    return None


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"see '{context.command_path} --help'" if context else "see 'tcfs --help'"
