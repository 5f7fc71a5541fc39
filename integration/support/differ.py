"""Two folders, on a plain file system and on a mount: the same steps on both, and what differs.

    python -P integration/support/differ.py PLAIN MOUNTED [--seed N] [--steps N]

A failing list of steps is cut down to a few that still fail, printed in the form of a test.
"""

import argparse
import os
import pprint
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from differ_side import Outcome, Side, Step
from differ_steps import Steps

COMPARE_EVERY = 50  # steps between two comparisons of the whole trees
SHRINK_S = 120.0
INNER = "in"


class Differs(AssertionError):
    """What was not the same on both sides. steps: all up to there; kind: what other failures are compared by."""

    def __init__(self, steps: Sequence[Step], kind: tuple[object, ...], text: str) -> None:
        super().__init__(text)
        self.steps = list(steps)
        self.kind = kind


@dataclass
class Pair:
    """Both sides."""

    plain: Side
    mounted: Side
    folder_links: bool  # the plain file system counts them
    done: list[Step] = field(default_factory=list)

    @classmethod
    def below(cls, plain: Path, mounted: Path) -> "Pair":
        """In new folders, and there one further down: some symlinks lead out."""
        for root in (plain, mounted):
            (root / INNER).mkdir(parents=True)
        counts = plain.stat().st_nlink > 2  # INNER is one
        plain_side, mounted_side = (Side(str(root / INNER), folder_links=counts) for root in (plain, mounted))
        return cls(plain_side, mounted_side, counts)

    def step(self, step: Step) -> Outcome:
        """Carry out a step on both. Differs."""
        self.done.append(step)
        ours, theirs = self.mounted.do(step), self.plain.do(step)
        if ours != theirs:
            kind = (_inmost(step)[0], _errno(theirs), _errno(ours))
            raise Differs(self.done, kind, f"{step!r}\n  plain:   {theirs!r}\n  mounted: {ours!r}")
        return ours

    def compare(self) -> dict[str, object]:
        """The whole trees; the plain one is returned. Differs."""
        theirs, ours = self.plain.tree(), self.mounted.tree()
        if theirs == ours:
            return theirs
        lines = []
        for path in sorted(theirs.keys() | ours.keys()):
            if theirs.get(path) != ours.get(path):
                lines.append(f"  {path!r}\n    plain:   {theirs.get(path)!r}\n    mounted: {ours.get(path)!r}")
        raise Differs(self.done, ("tree",), "the trees differ\n" + "\n".join(lines[:8]))

    def close(self) -> None:
        self.plain.close()
        self.mounted.close()


def _inmost(step: Step) -> Step:
    while step[0] in ("other", "watch"):
        step = step[-1]
    return step


def _errno(outcome: Outcome) -> object:
    return outcome[1] if isinstance(outcome, tuple) and outcome and outcome[0] == "errno" else "done"


def run(pair: Pair, steps: Steps, count: int, *, compare_every: int = COMPARE_EVERY) -> None:
    """`count` random steps. Differs."""
    for number in range(count):
        pair.step(steps.next())
        if number % compare_every == compare_every - 1:
            learn(steps, pair.compare())
    pair.compare()


def learn(steps: Steps, tree: dict[str, object]) -> None:
    """Tell the generator what there is."""
    steps.known = sorted(tree)
    steps.folders = ["", *(path for path, found in sorted(tree.items()) if found[0][0].startswith("d"))]  # type: ignore[index]


def replay(plain: Path, mounted: Path, steps: Sequence[Step], *, compare_each: bool = False) -> None:
    """A fixed list of steps in new folders, which are removed afterwards. Differs."""
    pair = Pair.below(plain, mounted)
    try:
        for step in steps:
            pair.step(step)
            if compare_each:
                pair.compare()
        pair.compare()
    finally:
        pair.close()
        shutil.rmtree(plain)
        shutil.rmtree(mounted)


def shrink(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], seconds: float = SHRINK_S) -> list[Step]:
    """Delta debugging (Zeller 2002): leave out parts, halves first, then smaller ones, as long as it still fails."""
    kept = list(steps)
    deadline = time.monotonic() + seconds
    size = max(len(kept) // 2, 1)
    while time.monotonic() < deadline:
        start, cut = 0, False
        while start < len(kept) and time.monotonic() < deadline:
            fewer = kept[:start] + kept[start + size :]
            if fewer and fails(fewer):
                kept, cut = fewer, True
            else:
                start += size
        if size == 1 and not cut:
            break
        size = max(size // 2, 1)
    return kept


def shrunk(found: Differs, plain: Path, mounted: Path, seconds: float = SHRINK_S) -> tuple[list[Step], str]:
    """The few steps that are enough for a difference of the same kind, and that one; all, if it does not come again."""
    number = 0
    last = str(found)

    def fails(steps: Sequence[Step]) -> bool:
        nonlocal number, last
        number += 1
        try:
            replay(plain / f"shrink{os.getpid()}-{number}", mounted / f"shrink{os.getpid()}-{number}", steps)
        except Differs as again:
            if again.kind == found.kind:
                last = str(again)
                return True
        return False

    return shrink(found.steps, fails, seconds), last


def story(steps: Sequence[Step], text: str) -> str:
    """A failure, as one reads it and as one pastes it into a test."""
    return f"{text}\nsteps = {pprint.pformat(list(steps), width=118)}"


def check_seed(plain: Path, mounted: Path, seed: int, count: int, **options: bool) -> None:
    """Random steps in new folders; AssertionError with few steps if anything differs."""
    pair = Pair.below(plain / f"seed{seed}", mounted / f"seed{seed}")
    try:
        run(pair, Steps(seed, **options), count)
    except Differs as found:
        pair.close()
        steps, text = shrunk(found, plain, mounted)
        raise AssertionError(f"seed {seed}: {story(steps, text)}") from None
    finally:
        pair.close()
    shutil.rmtree(plain / f"seed{seed}")
    shutil.rmtree(mounted / f"seed{seed}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain", type=Path)
    parser.add_argument("mounted", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from SEED on")
    parser.add_argument("--steps", type=int, default=2000, help="of each seed")
    parser.add_argument("--links", action="store_true")
    parser.add_argument("--nodes", action="store_true")
    arguments = parser.parse_args()
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        began = time.monotonic()
        try:
            check_seed(
                arguments.plain, arguments.mounted, seed, arguments.steps, links=arguments.links, nodes=arguments.nodes
            )
            rate = arguments.steps / (time.monotonic() - began)
            print(f"seed {seed}: same ({rate:.0f} steps/s)", flush=True)
        except AssertionError as found:
            failed += 1
            print(found, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
