"""tcfs status"""

from typing import TYPE_CHECKING, Any

import click

from cli.app import App, never_empty, verb
from cli.render import plural, shortened, size_text, table

if TYPE_CHECKING:
    from sync.machines.ask import Asked
    from sync.reports.state import LocalState

ENGINE_S = 2.0  # that a running engine gets to answer; without it the databases speak alone


@verb("status")
@click.argument("paths", nargs=-1, metavar="[PATH…]", callback=never_empty())
@click.option("-s", "--short", is_flag=True, help="One line a file instead: a glyph and its path.")
def command(app: App, paths: tuple[str, ...], short: bool) -> None:
    """Say what is not safe in the store yet, why, and what to do.

    \b
    The glyphs of -s; of several that fit the first one:
      x  excluded: stays on this machine
      !  conflict: another version stands against it
      *  dirty: changed (or removed) here, and not in the store yet
      +  pinned: kept on this machine, and all of it is here
      =  local: all of it is here
      ~  partial: some of it is here
      .  online-only: none of it is here
    """
    from sync.machines.ask import ask_engine
    from sync.machines.places import find_place, meanings
    from sync.reports.status import status

    asked = app.run(ask_engine(app.env, app.fleet, ENGINE_S))
    with app.state() as state:
        places = [find_place(meanings(state.config, path, app.cwd), path, state.is_here) for path in paths]
        if short:
            _print_short(app, state, places, asked)
            return
        data = status(state, [place for place in places if place], asked)
    app.out.data(data, _lines(data))


def _print_short(app: App, state: "LocalState", places: list[str], asked: "Asked") -> None:
    from sync.core.filestate import GLYPHS
    from sync.reports.glance import glance
    from sync.reports.status import engine_silence, unsafe_here

    found = glance(state, places, unsafe_here(state, asked))
    silence = engine_silence(asked)
    if app.out.as_json:
        files = [{"path": i.path, "state": i.state.value, "removed": i.removed} for i in found]
        legend = {glyph: shown.value for shown, glyph in GLYPHS.items()}
        app.out.data({"files": files, "legend": legend, "engine_silence": silence})
        return
    if silence:
        app.out.say(f"tcfsd {silence['message']} ({silence['next']})")
    app.out.data(None, (f"{GLYPHS[item.state]} {item.path}" for item in found))


def _lines(data: dict[str, Any]) -> list[str]:
    running = data["running"]
    lines = [
        f"{data['machine']} in fleet {data['fleet']}, store {data['store']}",
        f"tcfsd {_engine(data)}, mount {'runs' if running['mount'] else 'is down'}"
        + (f" at {data['mountpoint']}" if running["mount"] else ""),
    ]
    lines += [data["engine_silence"]["next"]] if data["engine_silence"] else []
    if data["engine"] and data["engine"]["store_trouble"]:
        lines.append(data["engine"]["store_trouble"])
    lines += [data["disk_trouble"]] if data["disk_trouble"] else []
    lines += [f"{data['policy_trouble']}: until then nothing is evicted"] if data["policy_trouble"] else []
    if data["mount_trouble"]:
        lines.append(f"the mount holds changes that it cannot save: {data['mount_trouble']}")
    lines += [f"changes may be missing from this report: {data['log_trouble']}"] if data["log_trouble"] else []
    lines += [f"lost from the mount when its redo log was damaged, and kept: {folder}" for folder in data["set_aside"]]
    if data["safe"]:
        lines.append("everything is in the store")
    elif data["unsafe"]:
        lines.append(f"{plural(len(data['unsafe']), 'path')} not in the store yet:")
        lines += table([["  " + item["path"], item["reason"], item["next"]] for item in data["unsafe"]])
    pins = data["engine"].get("pins") if data["engine"] else None  # a daemon of an older program tells of none
    lines += _pin_lines(pins) if pins else []
    if data["pinned_paths"] and not data["engine"]:
        lines.append(f"{plural(data['pinned_paths'], 'path')} pinned; what is missing comes while tcfsd runs")
    if data["local_only"]:
        lines.append(f"{plural(len(data['local_only']), 'path')} kept on this machine only (ignored):")
        lines += ["  " + path for path in data["local_only"]]
    if data["too_long"]:
        lines.append(f"{plural(len(data['too_long']), 'path')} kept on this machine only (path too long):")
        lines += ["  " + shortened(path) for path in data["too_long"]]
    if data["special"]:
        lines.append(f"{plural(len(data['special']), 'path')} kept on this machine only (pipes, sockets, devices):")
        lines += ["  " + path for path in data["special"]]
    if data["conflicts"]:
        lines.append(f"{plural(data['conflicts'], 'conflict')}: see 'tcfs conflicts'")
    lines += [f"missing: journal of {hole['machine']} from {hole['first']}: {hole['reason']}" for hole in data["holes"]]
    if data["lost"]:
        first = data["lost"][0]
        lines.append(
            f"{plural(len(data['lost']), 'pack')} of the store cannot be read whole, the first: {first['object']} is "
            f"{first['reason']}; 'tcfs fsck' names the files and what helps"
        )
    problems = data["engine"]["problems"] if data["engine"] else []
    lines += [f"{problem['kind']}: {problem['message']}" for problem in problems if problem["kind"] != "hole"]
    return lines


def _engine(data: dict[str, Any]) -> str:
    if data["engine_silence"]:
        return str(data["engine_silence"]["message"])
    return "runs" if data["running"]["engine"] else "is down"


def _pin_lines(pins: dict[str, Any]) -> list[str]:
    """What a pin still lacks; nothing where nothing is pinned."""
    if not pins["paths"]:
        return []
    line = f"pinned: {plural(pins['files'], 'file')}, {size_text(pins['bytes'])}"
    lines = [line + (f"; {pins['trouble']}" if pins["trouble"] else "")]
    if pins["lacking_files"]:
        missing = plural(pins["lacking_files"], "pinned file")
        lines.append(f"{missing} not all here yet, {size_text(pins['lacking_bytes'])}:")
        lines += ["  " + path for path in pins["lacking"]]
        lines += ["  …"] if pins["lacking_files"] > len(pins["lacking"]) else []
    return lines
