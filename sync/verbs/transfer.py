"""push and pull of plain folders; a LOCAL inside the mount is published as it is now."""

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sync.core.errors import BadInput
from sync.core.paths import STAYS_BY_NAME, is_below
from sync.machines.mounts import InMount
from sync.machines.own import find_own_folders
from sync.machines.places import find_place, local_place, meanings, push_source, remote_forms
from sync.plain.report import Progress as Moved
from sync.plain.report import ProgressCallback, TransferReport
from sync.reports.status import is_among, kept_here
from sync.state.files import files_below
from sync.verbs import Progress, described, parse_args, with_error
from sync.verbs.places import looked_up
from sync.verbs.wait import publish_now
from sync.worker.restore import restore

if TYPE_CHECKING:
    from sync.engine import Engine


class PushArgs(msgspec.Struct, forbid_unknown_fields=True):
    """paths may be relative to cwd. to: REMOTE folder, '' = the root."""

    paths: list[str]
    cwd: str
    to: str = ""
    force: bool = False
    totals: bool = False  # count beforehand what there is: somebody watches the progress


class PullArgs(msgspec.Struct, forbid_unknown_fields=True):
    remote: str
    local: str
    cwd: str
    force: bool = False
    totals: bool = False


async def push(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Conflicts and what was left out come with the result; StoreAway, NotFound and the like end it."""
    asked = parse_args(args, PushArgs)
    places = [await looked_up(engine, push_source, path, asked.cwd) for path in asked.paths]
    inside = [place.rel_path for place in places if isinstance(place, InMount)]
    plain = [(Path(place.place), place.name) for place in places if not isinstance(place, InMount)]
    if inside and asked.to:
        raise BadInput(f"{inside[0]} is in the mount: it is published where it is", hint="leave out --to, or copy it")
    report = TransferReport()
    if plain:
        to = _folder(engine, asked.to)
        own = await find_own_folders(engine.env, engine.config, engine.paths.home)
        totals = await engine.env.run_io(_count_local, [place for place, _ in plain], own) if asked.totals else {}
        report = await engine.pusher(own).run(plain, to, force=asked.force, progress=_told(progress, totals))
    if inside:
        published = await publish_now(engine, inside)
        report.files += published.files
        report.failures += published.failures
        report.conflicts += published.conflicts
        kept = await engine.env.run_io(kept_here, engine.tree, engine.context.db.view.path_of, [])
        _name_kept(report, kept, inside)
        if asked.force or engine.context.db.packs.has_lost():
            files = [
                (file.path, file.version) for place in inside for file in files_below(engine.context.db.view, place)
            ]
            restored = await restore(engine.publisher, engine.fetcher, files, verify=asked.force)
            report.restored += restored.files
            report.failures += restored.failures
    return with_error(_data(report), report.error())


async def pull(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    asked = parse_args(args, PullArgs)
    if not asked.remote:
        raise BadInput("REMOTE is empty", hint="'/' is the whole fleet")
    await engine.learner.learn()
    forms = await looked_up(engine, meanings, asked.remote, asked.cwd)
    remote = find_place(forms, asked.remote, engine.is_shown)
    local = await looked_up(engine, local_place, asked.local, asked.cwd)
    if isinstance(local, InMount):
        raise BadInput(f"{asked.local} is in the mount, where {remote} can be read", hint="copy it with cp")
    totals = _count_remote(engine, remote) if asked.totals else {}
    report = await engine.puller().run(remote, Path(local), force=asked.force, progress=_told(progress, totals))
    return with_error(_data(report), report.error())


def _folder(engine: "Engine", text: str) -> str:
    """The rel_path of a REMOTE that need not exist; a literal path wins if it does."""
    forms = remote_forms(engine.config, text)
    return next((form for form in forms if engine.is_shown(form)), forms[-1])


def _name_kept(report: TransferReport, kept: list[tuple[str, str]], pushed: list[str]) -> None:
    """What a push of places in the mount did not publish: a place that stays here itself or with what it lies in, and
    what does below one.
    """
    for path, reason in kept:
        named = [place for place in pushed if place == path or is_below(place, path)]
        report.skipped += [(place, reason) for place in named]
        if named or not is_among(path, pushed):
            continue
        if reason == STAYS_BY_NAME:
            report.name_ignored(path)
        else:
            report.skipped.append((path, reason))


def _told(progress: Progress, totals: dict[str, object]) -> ProgressCallback:
    def tell(moved: Moved) -> None:
        progress({"files": moved.files, "bytes": moved.moved_bytes, **totals})

    return tell


def _count_local(paths: list[Path], passed_by: Collection[str]) -> dict[str, object]:
    """Files and bytes below these paths, without what a push passes by; about right is enough."""
    files = size = 0
    waiting = [str(path) for path in paths]
    while waiting:
        place = waiting.pop()
        if place in passed_by:
            continue
        try:
            about = os.lstat(place)
            if stat.S_ISDIR(about.st_mode):
                waiting += [entry.path for entry in os.scandir(place)]
                continue
        except OSError:
            continue  # the push itself tells of it
        files += 1
        size += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return {"files_total": files, "bytes_total": size}


def _count_remote(engine: "Engine", remote: str) -> dict[str, object]:
    sizes = [file.size for file in files_below(engine.context.db.view, remote)]
    return {"files_total": len(sizes), "bytes_total": sum(sizes)}


def _data(report: TransferReport) -> dict[str, object]:
    return {
        "files": report.files,
        "unchanged": report.unchanged,
        "restored": report.restored,
        "bytes": report.moved_bytes,
        "conflicts": report.conflicts,
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "ignored": report.ignored,
        "ignored_left_out": report.ignored_left_out,
        "warnings": [{"path": path, "message": message} for path, message in report.warnings],
        "failures": [described(failure) for failure in report.failures],
        "versions": report.versions,
        "versions_left_out": report.versions_left_out,
    }
