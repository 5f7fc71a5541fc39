"""The same steps on a plain folder and on the mount: what was answered, and what lstat shows of every path after each.

A case is a list of steps, each (user, operation, arguments). Times are compared by whether a step moved them, or, if a
program had set them, exactly; the atime of a folder only so, because looking moves it. What a number stands for is
compared by the first path that shows it.
"""

import pickle
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

USERS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "root": (0, 0, ()),
    "alice": (65534, 65534, ()),
    "bob": (65533, 65533, ()),
    "carol": (65532, 65532, (65534,)),  # in the group of alice
}
LONG_AGO_NS = 1_600_000_000 * 10**9  # times before that were set by somebody

Step = tuple[Any, ...]  # user, operation, arguments...


class Case(NamedTuple):
    name: str
    steps: tuple[Step, ...]


class Difference(NamedTuple):
    """Where the two sides part: after which step, at which path ('' the outcome), which field, and what each has."""

    case: str
    step: Step
    path: str
    field: str
    plain: Any
    mount: Any

    def __str__(self) -> str:
        return f"{self.case}: {self.step!r}: {self.path} {self.field}: {self.plain!r} on ext4, {self.mount!r} here"


class _Process:
    """One actor."""

    def __init__(self, uid: int, gid: int, groups: Iterable[int]) -> None:
        command = [sys.executable, str(Path(__file__).with_name("actor.py")), str(uid), str(gid)]
        self._process = subprocess.Popen(
            [*command, *map(str, groups)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((name, arguments), self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class Side:
    """One of the two file systems, and every user's process on it."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._probe = base / "probe"
        self._probe.touch()
        self._actors = {name: _Process(*ids) for name, ids in USERS.items()}
        self._cases = 0
        self._now_ns = 0
        self._before: dict[bytes, tuple[Any, ...]] = {}

    def close(self) -> None:
        for actor in self._actors.values():
            actor.close()

    def begin(self) -> None:
        self._cases += 1
        folder = self._base / f"case{self._cases}"
        folder.mkdir()
        folder.chmod(0o777)
        for actor in self._actors.values():
            actor.ask("enter", str(folder), str(self._probe))
        self._before = self._actors["root"].ask("snapshot")

    def step(self, step: Step) -> tuple[Any, dict[bytes, dict[str, Any]]]:
        """The outcome, and each path's fields in a form that both sides can have."""
        root = self._actors["root"]
        newest = max(fields[7][2] for fields in self._before.values())
        root.ask("tick", max(newest, self._now_ns))
        user, name, *arguments = step
        outcome = self._actors[user].ask("step", name, tuple(arguments))
        root.ask("tick", root.ask("tick", 0))  # looking moves the atime of folders
        after = root.ask("snapshot")
        self._now_ns = max(fields[7][2] for fields in after.values())
        fields = _comparable(self._before, after)
        self._before = after
        return outcome, fields

    def contents(self) -> dict[bytes, bytes]:
        return self._actors["root"].ask("contents")


def _comparable(
    before: dict[bytes, tuple[Any, ...]], after: dict[bytes, tuple[Any, ...]]
) -> dict[bytes, dict[str, Any]]:
    times_before = {fields[6]: fields[7] for fields in before.values()}
    first: dict[int, bytes] = {}
    for path in sorted(after):
        first.setdefault(after[path][6], path)
    found = {}
    for path, (mode, nlink, uid, gid, size, rdev, ino, times) in after.items():
        was = times_before.get(ino)
        found[path] = {
            "mode": f"{mode:o}",
            "nlink": nlink,
            "uid": uid,
            "gid": gid,
            "size": size,
            "rdev": rdev,
            "same": first[ino].decode("utf-8", "surrogateescape"),
            "atime": _time(was[0] if was else None, times[0]) if not stat.S_ISDIR(mode) else min(times[0], LONG_AGO_NS),
            "mtime": _time(was[1] if was else None, times[1]),
            "ctime": _time(was[2] if was else None, times[2]),
        }
    return found


def _time(before: int | None, after: int) -> Any:
    if after < LONG_AGO_NS:
        return after
    return "new" if before is None else "same" if before == after else "moved"


@contextmanager
def sides(plain: Path, mount: Path) -> Iterator[tuple[Side, Side]]:
    """Both, in folders that exist."""
    one, other = Side(plain), Side(mount)
    try:
        yield one, other
    finally:
        one.close()
        other.close()


def compare(one: Side, other: Side, case: Case) -> list[Difference]:
    """Do a case on both sides; where they part first: all that follows is a consequence of that."""
    one.begin()
    other.begin()
    for step in case.steps:
        (outcome, fields), (other_outcome, other_fields) = one.step(step), other.step(step)
        if outcome != other_outcome:
            return [Difference(case.name, step, "", "outcome", outcome, other_outcome)]
        found = _differing(case.name, step, fields, other_fields)
        if found:
            return found
    content, other_content = one.contents(), other.contents()
    if content != other_content:
        return [Difference(case.name, case.steps[-1], "", "content", content, other_content)]
    return []


def _differing(
    case: str, step: Step, one: dict[bytes, dict[str, Any]], other: dict[bytes, dict[str, Any]]
) -> list[Difference]:
    if one.keys() != other.keys():
        return [Difference(case, step, "", "paths", sorted(one), sorted(other))]
    return [
        Difference(case, step, path.decode("utf-8", "replace"), field, fields[field], other[path][field])
        for path, fields in one.items()
        for field in fields
        if fields[field] != other[path][field]
    ]


def run(one: Side, other: Side, cases: Sequence[Case]) -> list[Difference]:
    return [difference for case in cases for difference in compare(one, other, case)]
