from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.heads import common_ancestor, heads_of
from sync.core.manifest import Kind, Version
from sync.core.show import Mode, NameShown, Shown, show
from tests.sync.core.made import GONE, MACHINES, Fields, History, Machine, histories

MODES = st.sampled_from(Mode)
OWN = st.sampled_from(("ada", "bea", "cy", "none")).map(lambda name: frozenset({f"id-{name}"}))


def _never(versions: Sequence[Version]) -> Version | None:
    raise AssertionError(f"asked for the ancestor of {versions}")


def _show(history: History, own: frozenset[str] | str, mode: Mode = Mode.INTERACTIVE) -> Shown:
    ids = frozenset({f"id-{own}"}) if isinstance(own, str) else own
    return show(heads_of(history.versions), lambda of: common_ancestor(of, history.find), ids, mode)


def _history(*versions: Version) -> History:
    return History(list(versions), {})


def _name(shown: Shown) -> NameShown:
    assert shown.name is not None
    return shown.name


def _fork(base: Fields, left: Fields, right: Fields) -> tuple[History, Version, Version, Version]:
    """ada writes base; ada changes it to left and bea, not knowing that, to right."""
    ada, bea = Machine("ada"), Machine("bea")
    first = ada.write([], base)
    mine, theirs = ada.write([first], left), bea.write([first], right)
    return _history(first, mine, theirs), first, mine, theirs


# ---- properties


@given(histories(folders=True), OWN, MODES, st.data())
def test_the_order_of_heads_does_not_matter(
    history: History, own: frozenset[str], mode: Mode, data: st.DataObject
) -> None:
    heads = data.draw(st.permutations(heads_of(history.versions)))
    assert show(heads, lambda of: common_ancestor(of, history.find), own, mode) == _show(history, own, mode)


@given(histories(folders=True), OWN, MODES)
def test_every_live_head_is_shown_once_and_in_auto_at_most_once(
    history: History, own: frozenset[str], mode: Mode
) -> None:
    shown = _show(history, own, mode)
    live = sorted(head.id for head in heads_of(history.versions) if head.is_live)
    dead = sorted(head.id for head in heads_of(history.versions) if not head.is_live)
    found = sorted([*(shown.name.covers if shown.name else ()), *(i for sib in shown.siblings for i in sib.covers)])
    assert len(found) == len(set(found))
    assert set(found) <= set(live)
    if mode is not Mode.AUTO:
        assert found == live
    assert list(shown.dead) == dead
    assert bool(found) == bool(live)  # something stands for it, whatever the mode


@given(histories(folders=True), OWN, MODES)
def test_siblings_are_no_folders_and_differ_from_name_and_from_each_other(
    history: History, own: frozenset[str], mode: Mode
) -> None:
    shown = _show(history, own, mode)
    values = [sib.manifest.value for sib in shown.siblings]
    values += [shown.name.version.manifest.value] if shown.name else []
    assert len(values) == len(set(values))
    assert all(sib.manifest.kind is not Kind.DIR for sib in shown.siblings)


@given(histories(folders=True), OWN, MODES)
def test_where_a_file_was_removed_name_is_absent(history: History, own: frozenset[str], mode: Mode) -> None:
    shown = _show(history, own, mode)
    heads = heads_of(history.versions)
    live = [head for head in heads if head.is_live]
    removed_here = any(not head.is_live and head.manifest.written_by in own for head in heads)
    is_folder = any(head.manifest.kind is Kind.DIR for head in live)
    assert (shown.name is None) == (not live or (removed_here and not is_folder))


@given(histories(folders=True), MODES)
def test_machines_without_heads_of_their_own_show_the_same(history: History, mode: Mode) -> None:
    assert _show(history, "none", mode) == _show(history, "nobody", mode)


@given(histories(folders=True), OWN)
def test_defer_shows_what_interactive_shows(history: History, own: frozenset[str]) -> None:
    assert _show(history, own, Mode.DEFER) == _show(history, own, Mode.INTERACTIVE)


@given(histories(folders=True), OWN, MODES)
def test_saving_name_leaves_exactly_the_siblings_and_the_losers(
    history: History, own: frozenset[str], mode: Mode
) -> None:
    """What `seen` says is what the next version supersedes: nothing that was shown beside NAME, nothing hidden."""
    shown = _show(history, own, mode)
    heads = heads_of(history.versions)
    seen = [head for head in heads if head.id in shown.seen]
    new = Machine("zoe").write(seen, Fields(content="new"))
    after = heads_of([*heads, new])
    assert {head.id for head in after} == {new.id} | {head.id for head in heads} - set(shown.seen)
    assert not set(shown.seen) & {identity for sib in shown.siblings for identity in sib.covers}


@given(histories(), st.sampled_from(MACHINES))
def test_mode_and_xattrs_of_a_name_do_not_depend_on_who_looks_if_its_heads_do_not(history: History, own: str) -> None:
    one, two = _show(history, own), _show(history, "none")
    if one.name and two.name and set(one.name.covers) == set(two.name.covers):
        assert (one.name.mode, one.name.xattrs) == (two.name.mode, two.name.xattrs)
        assert (one.name.owner, one.name.group) == (two.name.owner, two.name.group)


# ---- one head, no head


def test_nothing_shows_nothing() -> None:
    shown = show((), _never, {"id-ada"}, Mode.INTERACTIVE)
    assert shown == Shown()
    assert shown.seen == ()


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("own", ["ada", "bea"])
def test_one_live_head_is_name_as_it_is(own: str, mode: Mode) -> None:
    head = Machine("ada").write([], Fields(content="x", mode=0o600, xattrs={"user.a": "MQ=="}, mtime_ns=7))
    shown = show((head,), _never, {f"id-{own}"}, mode)
    assert shown == Shown(NameShown(head, (), 0o600, {"user.a": "MQ=="}, 7))
    assert shown.seen == (head.id,)


@pytest.mark.parametrize("own", ["ada", "bea"])
def test_a_tombstone_alone_shows_nothing_and_is_seen(own: str) -> None:
    tomb = Machine("ada").write([], GONE)
    shown = show((tomb,), _never, {f"id-{own}"}, Mode.INTERACTIVE)
    assert shown == Shown(dead=(tomb.id,))
    assert shown.seen == (tomb.id,)


def test_several_tombstones_show_nothing_and_all_are_seen() -> None:
    one, two = Machine("ada").write([], GONE), Machine("bea").write([], GONE)
    shown = show((two, one), _never, {"id-ada"}, Mode.INTERACTIVE)
    assert shown == Shown(dead=tuple(sorted((one.id, two.id))))
    assert set(shown.seen) == {one.id, two.id}


# ---- values that stand against each other


def test_the_own_head_is_name_and_the_other_stands_beside_it() -> None:
    history, _, mine, theirs = _fork(Fields(content="u"), Fields(content="v"), Fields(content="w"))
    for own, name, beside in (("ada", mine, theirs), ("bea", theirs, mine), ("cy", mine, theirs)):
        shown = _show(history, own)
        assert _name(shown).version == name
        assert [sib.id for sib in shown.siblings] == [beside.id]
        assert shown.seen == (name.id,)


def test_auto_shows_the_least_machine_name_everywhere_and_no_sibling() -> None:
    history, _, mine, _ = _fork(Fields(content="u"), Fields(content="v"), Fields(content="w"))
    for own in ("ada", "bea", "cy"):
        shown = _show(history, own, Mode.AUTO)
        assert _name(shown).version == mine
        assert _name(shown).also == ()
        assert shown.siblings == ()


def test_a_head_of_any_id_this_machine_had_is_its_own() -> None:
    history, _, _, theirs = _fork(Fields(content="u"), Fields(content="v"), Fields(content="w"))
    assert _name(_show(history, frozenset({"id-new", "id-bea"}))).version == theirs


def test_ties_of_one_machine_name_go_by_seq_as_a_number() -> None:
    ada = Machine("ada", seq=8)
    nine, ten = ada.write([], Fields(content="v")), ada.write([], Fields(content="w"))
    assert (nine.manifest.seq, ten.manifest.seq) == (9, 10)
    shown = _show(_history(nine, ten), "bea")
    assert _name(shown).version == nine
    assert [sib.id for sib in shown.siblings] == [ten.id]


def test_siblings_stand_in_the_auto_winners_order() -> None:
    heads = [Machine(name).write([], Fields(content=name)) for name in ("dan", "cy", "bea", "ada")]
    shown = _show(_history(*heads), "cy")
    assert [sib.manifest.machine_name for sib in shown.siblings] == ["ada", "bea", "dan"]


# ---- equal values


def test_equal_values_collapse_and_are_seen_together() -> None:
    one, two = Machine("ada").write([], Fields(content="x")), Machine("bea").write([], Fields(content="x"))
    for own, name, other in (("ada", one, two), ("bea", two, one), ("cy", one, two)):
        shown = show((one, two), _never, {f"id-{own}"}, Mode.INTERACTIVE)
        assert (_name(shown).version, _name(shown).also, shown.siblings) == (name, (other.id,), ())
        assert set(shown.seen) == {one.id, two.id}


def test_equal_siblings_collapse_into_one() -> None:
    mine = Machine("cy").write([], Fields(content="x"))
    one, two = Machine("ada").write([], Fields(content="y")), Machine("bea").write([], Fields(content="y"))
    shown = _show(_history(mine, one, two), "cy")
    assert [(sib.id, sib.also) for sib in shown.siblings] == [(one.id, (two.id,))]


def test_kind_and_target_are_value() -> None:
    link = Machine("ada").write([], Fields(kind=Kind.SYMLINK, target="t"))
    other = Machine("bea").write([], Fields(kind=Kind.SYMLINK, target="s"))
    file = Machine("cy").write([], Fields())
    assert len(_show(_history(link, other, file), "cy").siblings) == 2


# ---- fields that merge


def test_a_chmod_beside_a_write_is_merged() -> None:
    base = Fields(content="u", mode=0o644, mtime_ns=1)
    history, _, chmod, write = _fork(
        base, Fields(content="u", mode=0o755, mtime_ns=1), Fields(content="v", mode=0o644, mtime_ns=2)
    )
    for own in ("ada", "bea", "cy"):
        for mode in Mode:
            shown = _show(history, own, mode)
            assert shown == Shown(NameShown(write, (chmod.id,), 0o755, {}, 2))


def test_a_touch_beside_a_write_is_merged_and_the_bytes_keep_their_mtime() -> None:
    base = Fields(content="u", mtime_ns=1)
    history, _, touch, write = _fork(base, Fields(content="u", mtime_ns=9), Fields(content="v", mtime_ns=2))
    shown = _show(history, "ada")
    assert (_name(shown).version, _name(shown).also, _name(shown).mtime_ns) == (write, (touch.id,), 2)


def test_a_write_back_to_the_ancestors_value_is_no_conflict_for_others() -> None:
    ada, bea = Machine("ada"), Machine("bea")
    first = ada.write([], Fields(content="u"))
    second = ada.write([first], Fields(content="v"))
    back = ada.write([second], Fields(content="u"))
    theirs = bea.write([first], Fields(content="w"))
    shown = _show(_history(first, second, back, theirs), "ada")
    assert (_name(shown).version, _name(shown).also) == (theirs, (back.id,))


def test_without_a_known_ancestor_nothing_is_merged() -> None:
    _, _, chmod, write = _fork(Fields(content="u"), Fields(content="u", mode=0o755), Fields(content="v"))
    shown = show((chmod, write), lambda _: None, {"id-ada"}, Mode.INTERACTIVE)
    assert _name(shown).version == chmod
    assert [sib.id for sib in shown.siblings] == [write.id]


def test_the_mode_that_changed_wins_and_of_two_the_auto_winners() -> None:
    base = Fields(content="u", mode=0o644)
    for left, right, merged in ((0o600, 0o644, 0o600), (0o644, 0o755, 0o755), (0o600, 0o755, 0o600)):
        history, _, _, _ = _fork(base, Fields(content="u", mode=left), Fields(content="u", mode=right))
        assert {_name(_show(history, own)).mode for own in ("ada", "bea", "cy")} == {merged}


def test_owner_and_group_merge_as_the_mode_does_each_by_itself() -> None:
    base = Fields(content="u", owner="ada", group="staff")
    for left, right, merged in (("bea", "ada", "bea"), ("ada", "", ""), ("bea", "cy", "bea")):
        mine, theirs = Fields(content="u", owner=left, group="staff"), Fields(content="v", owner=right, group="audio")
        for kind in (Kind.FILE, Kind.DIR):
            of_kind = [msgspec.structs.replace(each, kind=kind, content="u") for each in (base, mine, theirs)]
            for fields in ([base, mine, theirs], of_kind):
                history, _, _, _ = _fork(*fields)
                for own in ("ada", "bea", "cy"):
                    name = _name(_show(history, own))
                    assert (name.owner, name.group) == (merged, "audio")


def test_xattrs_merge_name_by_name() -> None:
    base = Fields(content="u", xattrs={"kept": "MA==", "gone": "MA==", "both": "MA=="})
    history, _, _, _ = _fork(
        base,
        Fields(content="u", xattrs={"kept": "MA==", "both": "MQ==", "left": "MQ=="}),
        Fields(content="u", xattrs={"kept": "MA==", "gone": "MA==", "both": "Mg==", "right": "Mg=="}),
    )
    expected = {"kept": "MA==", "both": "MQ==", "left": "MQ==", "right": "Mg=="}
    assert _name(_show(history, "bea")).xattrs == expected


def test_a_removed_xattr_stays_removed_beside_a_write() -> None:
    base = Fields(content="u", xattrs={"a": "MA=="})
    history, _, _, _ = _fork(base, Fields(content="u"), Fields(content="v", xattrs={"a": "MA=="}))
    assert _name(_show(history, "bea")).xattrs == {}


def test_mtime_is_the_own_heads_else_the_newest() -> None:
    one = Machine("ada").write([], Fields(content="x", mtime_ns=5))
    two = Machine("bea").write([], Fields(content="x", mtime_ns=9))
    heads = (one, two)
    mtimes = {own: _name(show(heads, _never, {f"id-{own}"}, Mode.INTERACTIVE)).mtime_ns for own in ("ada", "bea", "cy")}
    assert mtimes == {"ada": 5, "bea": 9, "cy": 9}


# ---- tombstones beside live heads


def test_a_tombstone_beside_a_live_head_hides_name_only_where_it_was_written() -> None:
    history, _, tomb, live = _fork(Fields(content="u"), GONE, Fields(content="v"))
    for mode in Mode:
        at_home = _show(history, "ada", mode)
        assert at_home.name is None
        assert [sib.id for sib in at_home.siblings] == [live.id]
        assert at_home.seen == (tomb.id,)
        for own in ("bea", "cy"):
            elsewhere = _show(history, own, mode)
            assert _name(elsewhere).version == live
            assert elsewhere.siblings == ()
            assert elsewhere.seen == (live.id,)
            assert elsewhere.dead == (tomb.id,)


def test_an_own_tombstone_beside_an_own_live_head_hides_it() -> None:
    ada = Machine("ada")
    first = ada.write([], Fields(content="u"))
    tomb, live = ada.write([first], GONE), ada.write([first], Fields(content="v"))
    shown = _show(_history(first, tomb, live), "ada")
    assert shown.name is None
    assert [sib.id for sib in shown.siblings] == [live.id]


def test_what_a_tombstone_superseded_is_gone_however_late_it_comes() -> None:
    ada = Machine("ada")
    first = ada.write([], Fields(content="u"))
    tomb = ada.write([first], GONE)
    assert _show(_history(tomb, first), "bea") == Shown(dead=(tomb.id,))


def test_a_chmod_beside_a_removal_lives() -> None:
    history, _, _, live = _fork(Fields(content="u"), GONE, Fields(content="u", mode=0o600))
    assert _name(_show(history, "bea")).version == live


# ---- directories


def test_folders_merge_field_by_field_and_never_conflict() -> None:
    base = Fields(kind=Kind.DIR, mode=0o755, mtime_ns=1)
    history, _, mine, theirs = _fork(
        base, Fields(kind=Kind.DIR, mode=0o755, mtime_ns=3), Fields(kind=Kind.DIR, mode=0o700, mtime_ns=5)
    )
    for own in ("ada", "bea", "cy"):
        for mode in Mode:
            assert _show(history, own, mode) == Shown(NameShown(mine, (theirs.id,), 0o700, {}, 3))


def test_a_folder_keeps_name_and_the_file_stands_beside_it_in_auto_too() -> None:
    file, other = Machine("ada").write([], Fields(content="x")), Machine("bea").write([], Fields(content="y"))
    folder = Machine("cy").write([], Fields(kind=Kind.DIR))
    for own in ("ada", "bea", "cy"):
        shown = _show(_history(file, other, folder), own)
        assert _name(shown).version == folder
        assert {sib.id for sib in shown.siblings} == {file.id, other.id}
        auto = _show(_history(file, other, folder), own, Mode.AUTO)
        assert _name(auto).version == folder
        assert [sib.id for sib in auto.siblings] == [file.id]


def test_a_folder_lives_beside_its_own_tombstone() -> None:
    history, _, _, live = _fork(Fields(kind=Kind.DIR), GONE, Fields(kind=Kind.DIR, mode=0o700))
    assert _name(_show(history, "ada")).version == live


def test_a_chmod_of_a_file_that_became_a_folder_is_merged() -> None:
    history, _, chmod, folder = _fork(
        Fields(content="u"), Fields(content="u", mode=0o600), Fields(kind=Kind.DIR, mode=0o755)
    )
    shown = _show(history, "ada")
    assert shown == Shown(NameShown(folder, (chmod.id,), 0o755, {}, 0))


def test_a_chmod_of_a_folder_that_became_a_file_keeps_the_folder() -> None:
    history, _, chmod, file = _fork(Fields(kind=Kind.DIR), Fields(kind=Kind.DIR, mode=0o700), Fields(content="x"))
    for mode in Mode:
        shown = _show(history, "bea", mode)
        assert (_name(shown).version, _name(shown).also) == (chmod, ())
        assert [(sib.id, sib.also) for sib in shown.siblings] == [(file.id, ())]


def test_the_mode_of_a_folder_says_nothing_about_the_files_that_came_instead() -> None:
    history, _, _, _ = _fork(
        Fields(kind=Kind.DIR, mode=0o600), Fields(content="x", mode=0o600), Fields(content="x", mode=0o644)
    )
    assert _name(_show(history, "bea")).mode == 0o600
