"""What every verb needs: where things are, how to reach an engine, how to read the databases without one.

Heavy modules are imported where they are used: a verb that needs none of them starts in a tenth of a second.
"""

import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.render import Out, ProgressLine

if TYPE_CHECKING:
    from sync.core.errors import TcfsError
    from sync.env import Env
    from sync.reports.state import LocalState
    from sync.state.home import FleetPaths, Home
    from sync.state.settings import Settings

T = TypeVar("T")
LOCK_WAIT_S = 10.0  # another verb may be the engine without listening yet, or be about to stop
LOCK_PAUSE_S = 0.05
NAMED_MAX = 3  # of what was left out


class App:
    """One run of the command line."""

    def __init__(self, environ: Mapping[str, str], out: Out) -> None:
        self.environ = environ
        self.out = out
        self.fleet_flag: str | None = None

    @functools.cached_property
    def env(self) -> "Env":
        from sync.env import RealEnv

        return RealEnv(self.environ)

    def close(self) -> None:
        if "env" in self.__dict__:
            self.env.close()

    @functools.cached_property
    def home(self) -> "Home":
        from sync.state.home import Home

        return Home.from_environ(self.environ)

    @functools.cached_property
    def settings(self) -> "Settings":
        from sync.state.settings import Settings

        return Settings.load(self.home, self.environ, {"fleet": self.fleet_flag})

    @functools.cached_property
    def fleet(self) -> "FleetPaths":
        """The fleet that is meant; NotFound if this machine is in none."""
        return self.home.fleet(self.settings.fleet)

    @property
    def cwd(self) -> str:
        """The working directory as the kernel names it; asking for it touches nothing below a mount."""
        return str(Path.cwd())

    @contextlib.contextmanager
    def state(self) -> Iterator["LocalState"]:
        """The databases, read-only, with no engine needed."""
        from sync.reports.state import LocalState

        state = LocalState(self.env, self.fleet)
        try:
            yield state
        finally:
            state.close()

    def damage(self, error: Exception) -> "TcfsError | None":
        """Which database is damaged, and what to do, if that is what the error means."""
        from sync.state.damage import find_damage, is_broken

        return find_damage(self.env, self.fleet) if is_broken(error) else None

    def run(self, work: Awaitable[T]) -> T:
        import asyncio

        async def main() -> T:
            return await work

        return asyncio.run(main())

    def call(self, verb: str, **args: Any) -> dict[str, Any]:
        """A verb of the engine: of tcfsd if one runs, else of an engine in this process for as long as it takes."""
        progress = ProgressLine(self.env, self.out, verb)
        try:
            return self.run(call_engine(self.env, self.fleet, self.settings, verb, args, progress))
        finally:
            progress.close()


async def call_engine(
    env: "Env",
    fleet: "FleetPaths",
    settings: "Settings",
    verb: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, object]], None],
) -> dict[str, Any]:
    """NotYet if the engine lock is held by somebody who does not answer for 10 s."""
    from sync.core.errors import NoDaemon, NotYet

    until = env.monotonic() + LOCK_WAIT_S
    while True:
        with contextlib.suppress(NoDaemon):
            return await call_daemon(env, fleet, verb, args, progress)

        from sync.engine import EngineBusy, run_engine
        from sync.verbs import find_verb

        try:
            return await run_engine(env, fleet, settings, find_verb, lambda engine: engine.call(verb, args, progress))
        except EngineBusy as busy:
            if env.monotonic() >= until:
                raise NotYet("another tcfs is at work and does not answer", hint="try again in a moment") from busy
        await env.sleep(LOCK_PAUSE_S)


async def call_daemon(
    env: "Env",
    fleet: "FleetPaths",
    verb: str,
    args: dict[str, Any],
    progress: Callable[[dict[str, object]], None] | None = None,
) -> dict[str, Any]:
    """A verb of a running engine only; NoDaemon if there is none, BadInput for names that are not valid UTF-8."""
    from sync.ipc.client import connected
    from sync.ipc.frames import Hello

    _check_names(args)
    async with connected(env, fleet.socket_path, Hello(role="cli")) as client:
        return await client.call(verb, args, progress)


def _check_names(args: dict[str, Any]) -> None:
    """What is not valid UTF-8 in argv, or in the working directory's name, has lone surrogates here."""
    from sync.core.errors import BadInput

    for value in args.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
                raise BadInput(f"not valid UTF-8: {text!r}", hint="rename it: the fleet's names are UTF-8")


def say_warnings(app: App, data: dict[str, Any]) -> None:
    for warning in data["warnings"]:
        app.out.say(f"warning: {warning['path']}: {warning['message']}")


def say_left_out(app: App, skipped: list[dict[str, str]]) -> None:
    """How many things a verb has left out, and the first of them."""
    from cli.render import plural, shortened

    if skipped:
        named = "; ".join(f"{shortened(item['path'])} {item['reason']}" for item in skipped[:NAMED_MAX])
        rest = "; …" if len(skipped) > NAMED_MAX else ""
        app.out.say(f"left out: {plural(len(skipped), 'path')}: {named}{rest}")


def say_passed_by(app: App, ignored: list[str], more: int) -> None:
    """How many things below the named folders stay here by their names, and the first of them."""
    from cli.render import plural, shortened

    if ignored:
        named = "; ".join(map(shortened, ignored[:NAMED_MAX]))
        count, rest = len(ignored) + more, "; …" if len(ignored) + more > NAMED_MAX else ""
        stay = "stays on this machine by its name" if count == 1 else "stay on this machine by their names"
        app.out.say(f"left out: {plural(count, 'path')} that {stay}: {named}{rest}")


def finish(app: App, data: dict[str, Any], lines: Iterable[str]) -> int:
    """Print what a verb came to; its exit code. A verb that failed in part brings data and an error."""
    failures = data.get("failures") or data.get("refused") or []
    for failure in failures[1:]:
        app.out.say(f"{failure['path']}: {failure['message']}" if failure["path"] else failure["message"])
    error = data.pop("error", None)
    if error is None:
        app.out.data(data, lines)
        return 0
    from sync.ipc.frames import Failed, error_of

    failed = error_of(Failed(0, error["code"], error["message"], error["hint"], error["path"]))
    return app.out.failed(failed, data, lines)


def verb(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function `(app, **options)` a verb. Its return value, if an int, is the exit code."""
    with_fleet = settings.pop("with_fleet", True)

    def wrap(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def guarded(app: App, **options: Any) -> Any:
            try:
                return function(app, **options)
            except Exception as error:
                damage = app.damage(error)
                if damage is None:
                    raise
                raise damage from error

        options = [click.option("--json", is_flag=True, expose_value=False, callback=_json, help="Print JSON.")]
        if with_fleet:
            text = "The fleet, if this machine is in several: its name or id."
            options.append(click.option("--fleet", metavar="NAME", expose_value=False, callback=_fleet, help=text))
        decorated: Callable[..., Any] = click.pass_obj(guarded)
        for option in options:
            decorated = option(decorated)
        settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        return click.command(name, cls=click.Command, **settings)(decorated)

    return wrap


def never_empty(hint: str = "'/' is the whole fleet") -> Callable[[click.Context, click.Parameter, Any], Any]:
    """The callback of a path: '' is refused. A script whose variable is empty must not mean everything by it."""

    def check(_: click.Context, __: click.Parameter, value: Any) -> Any:
        from sync.core.errors import BadInput

        if "" in (value if isinstance(value, tuple) else (value,)):
            raise BadInput("a path is empty", hint=hint)
        return value

    return check


def _json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_object(App).out.as_json = True  # type: ignore[union-attr]


def _fleet(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.find_object(App).fleet_flag = value  # type: ignore[union-attr]
