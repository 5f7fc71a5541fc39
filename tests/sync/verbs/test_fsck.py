"""The verb: what it answers, and with which error it ends."""

from types import SimpleNamespace
from typing import Any

import pytest
from fsckkit import Two, made, paths_of

from sync.core.errors import BadInput
from sync.verbs import find_verb

two = pytest.fixture(made, name="two")


def call(two: Two, **args: object) -> dict[str, Any]:
    """As a CLI calls it, on an engine that has what the verb uses."""
    bates = two.bates
    engine = SimpleNamespace(
        context=bates.context, paths=paths_of(bates), learner=bates.learner, publisher=bates.publisher
    )
    return two.do(find_verb("fsck")(engine, args, lambda data: None))  # type: ignore[arg-type]


def test_clean(two: Two) -> None:
    data = call(two, deep=True)
    assert data["findings"] == [] and data["total"] == 0 and "error" not in data
    assert data["checked"]["packs"] == 3


def test_it_learns_first(two: Two) -> None:
    two.yoga.write("late", "words")
    two.do(two.yoga.push("late"))
    assert call(two)["checked"]["contents"] == 7


def test_what_our_journal_lacks_in_the_store_is_put_again(two: Two) -> None:
    assert call(two)["findings"] == []
    (key,) = two.keys(f"journal/{two.bates.db.machine_id}/")
    del two.objects[key]
    assert call(two)["findings"] == []
    assert key in two.objects
    assert two.bates.problems_now()


def test_an_error_ends_it_with_integrity(two: Two) -> None:
    key = two.keys("packs/")[0]
    del two.objects[key]
    data = call(two)
    assert data["error"]["code"] == "integrity"
    assert data["findings"][0]["object"] == key
    assert {"severity", "object", "message", "hint", "path"} == set(data["findings"][0])


def test_a_warning_does_not(two: Two) -> None:
    two.objects[f"packs/{two.bates.db.machine_id}/ab/{'ab' * 32}"] = b"left over"
    data = call(two)
    assert data["total"] == 1 and "error" not in data


def test_a_store_that_is_away_ends_it_with_that(two: Two) -> None:
    two.fleet.memory.is_away = True
    data = call(two)
    assert data["error"]["code"] == "store-away"
    assert data["findings"] == [] and len(data["unverified"]) >= 1


def test_arguments_are_checked(two: Two) -> None:
    with pytest.raises(BadInput):
        call(two, depth=1)
