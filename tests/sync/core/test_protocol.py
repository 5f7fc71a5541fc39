"""The interleavings that break a weaker wording of the rules, played with the pure functions alone.

A Peer is one machine: what it knows, and an Entry for each name it changes, which keeps `seen` and `last` as the mount
does. Each directed test says what goes right and, where that can be shown, what the weaker wording would do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from sync.core.clock import Order, compare, machine_of
from sync.core.heads import common_ancestor, heads_of, is_prunable
from sync.core.manifest import Kind, PathVersion, Version, VersionId
from sync.core.plan import Decision, Moving, State, compare_three, rename_folder, republish, seen_at, state_of
from sync.core.show import Mode, Shown, show
from tests.sync.core.made import GONE, MACHINES, Fields, Machine


class Peer(Machine):
    """A machine with what it knows."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ids = {self.machine_id}
        self.known: dict[str, Version] = {}

    def learn(self, *versions: Version) -> None:
        self.known.update({version.id: version for version in versions})

    def heads(self, path: str = "f") -> tuple[Version, ...]:
        return heads_of(version for version in self.known.values() if version.path == path)

    def shown(self, path: str = "f") -> Shown:
        return show(self.heads(path), lambda of: common_ancestor(of, self.known.get), self.ids, Mode.INTERACTIVE)

    def seen_versions(self, identities: Iterable[str]) -> list[Version]:
        return [self.known[identity] for identity in identities]

    def publish(self, seen: Iterable[Version], fields: Fields, path: str = "f") -> Version:
        """Write a version, the newest numbers taken from what is known, as after a restart."""
        self.newest[path] = self._newest(path)
        new = self.write(seen_at(path, seen, self.heads(path)), fields, path)
        self.learn(new)
        return new

    def _newest(self, path: str) -> dict[str, int]:
        newest: dict[str, int] = {}
        for version in self.known.values():
            for actor, number in version.clock.items() if version.path == path else ():
                if machine_of(actor) == self.machine_id:
                    newest[actor] = max(number, newest.get(actor, 0))
        return newest


@dataclass
class Entry:
    """A changed name: what it has seen, and the state last published from it or shown before."""

    peer: Peer
    path: str = "f"
    seen: list[Version] = field(default_factory=list)
    last: State | None = None
    resolved: bool = False

    def __post_init__(self) -> None:
        shown = self.peer.shown(self.path)
        self.seen += self.peer.seen_versions(shown.seen)
        self.last = state_of(shown.name)

    def resolve(self, shown: Shown) -> None:
        self.seen += self.peer.seen_versions(shown.siblings[0].covers)
        self.resolved = True

    def publish(self, fields: Fields) -> Version | None:
        """What the worker does with a seal of this entry; the entry has then seen it, answered or not."""
        here = None if fields.kind is Kind.TOMBSTONE else _state(fields)
        if compare_three(self.last, here, self.resolved) is Decision.UNCHANGED:
            return None
        new = self.peer.publish(self.seen, fields, self.path)
        self.seen.append(new)
        self.last, self.resolved = here, False
        return new


def _state(fields: Fields) -> State:
    return State(fields.kind, fields.content, fields.target, fields.mode, fields.xattrs, fields.mtime_ns)


def _some(version: Version | None) -> Version:
    assert version is not None
    return version


A, B, C = Fields(content="a"), Fields(content="b"), Fields(content="c")


# ---- an entry has seen its own versions in flight


def test_removed_before_the_note() -> None:
    ada = Peer("ada")
    entry = Entry(ada)
    first = _some(entry.publish(A))
    tomb = _some(entry.publish(GONE))
    assert ada.heads() == (tomb,)
    ada.learn(ada.publish([], GONE))  # weaker: the entry knows only what it showed before the version in flight
    assert first.id not in {head.id for head in ada.heads()}
    weaker = Peer("ada")
    weaker.publish([], A)
    weaker.publish([], GONE)
    assert len(weaker.heads()) == 2


def test_saved_before_the_note() -> None:
    ada = Peer("ada")
    entry = Entry(ada)
    entry.publish(A)
    second = _some(entry.publish(B))
    assert ada.heads() == (second,)
    assert ada.shown().siblings == ()


def test_noted_between_reading_and_commit() -> None:
    """The worker's own answer is part of what it read, whether or not the mount has dropped its mark meanwhile."""
    ada = Peer("ada")
    entry = Entry(ada)
    first = _some(entry.publish(A))
    read = [*entry.seen]
    entry.seen.clear()  # the note: the row goes and shown speaks for it
    second = ada.publish(read, B)
    assert ada.heads() == (second,)
    assert second.manifest.parents == [first.id]


def test_undone_before_the_note() -> None:
    """Created, published, removed: the removal is a change against what was published, none against what was shown."""
    ada = Peer("ada")
    entry = Entry(ada)
    shown_before = entry.last
    entry.publish(A)
    assert compare_three(shown_before, None, False) is Decision.UNCHANGED
    tomb = _some(entry.publish(GONE))
    assert ada.shown() == Shown(dead=(tomb.id,))


def test_moved_away_and_back() -> None:
    """The row was published as removed, then the same bytes come back: a change, though equal to the node's base."""
    ada = Peer("ada")
    base = ada.publish([], A)
    entry = Entry(ada)
    tomb = _some(entry.publish(GONE))
    assert compare_three(state_of(base.manifest), _state(A), False) is Decision.UNCHANGED
    back = _some(entry.publish(A))
    assert ada.heads() == (back,)
    assert compare(tomb.clock, back.clock) is Order.BEFORE


def test_recreated_while_the_removal_is_in_flight() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    first = ada.publish([], A)
    entry = Entry(ada)
    tomb, again = _some(entry.publish(GONE)), _some(entry.publish(B))
    for order in ((first, tomb, again), (again, tomb, first), (tomb, again, first)):
        reader = Peer("cy")
        reader.learn(*order)
        assert reader.heads() == (again,)
    bea.learn(again)
    assert bea.shown().siblings == ()


# ---- what was seen, and what was not


def test_a_sibling_is_not_seen_by_saving_name() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    mine, theirs = ada.publish([], A), bea.publish([], B)
    ada.learn(theirs)
    assert [sibling.id for sibling in ada.shown().siblings] == [theirs.id]
    saved = _some(Entry(ada).publish(C))
    assert {head.id for head in ada.heads()} == {saved.id, theirs.id}
    assert mine.id not in {head.id for head in ada.heads()}


def test_a_dismissed_sibling_is_published_though_nothing_else_changed() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    ada.publish([], A)
    ada.learn(bea.publish([], B))
    entry = Entry(ada)
    assert entry.publish(A) is None
    entry.resolve(ada.shown())
    resolved = _some(entry.publish(A))
    assert ada.heads() == (resolved,)
    bea.learn(*ada.known.values())
    assert bea.heads() == (resolved,)


def test_a_sibling_moved_over_name() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    ada.publish([], A)
    ada.learn(bea.publish([], B))
    entry = Entry(ada)
    entry.resolve(ada.shown())
    taken = _some(entry.publish(B))
    assert ada.heads() == (taken,)


def test_equal_siblings_are_resolved_together() -> None:
    ada, bea, cy = Peer("ada"), Peer("bea"), Peer("cy")
    ada.publish([], A)
    ada.learn(bea.publish([], B), cy.publish([], B))
    assert len(ada.shown().siblings) == 1
    entry = Entry(ada)
    entry.resolve(ada.shown())
    kept = _some(entry.publish(A))
    assert ada.heads() == (kept,)


def test_a_write_through_an_old_handle_stands_beside_what_came_meanwhile() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    first = ada.publish([], A)
    bea.learn(first)
    opened = [first]  # bea opens the file, ada's next version arrives, bea writes through the handle
    second = ada.publish([first], B)
    bea.learn(second)
    late = bea.publish(opened, C)
    assert {head.id for head in bea.heads()} == {second.id, late.id}
    assert [sibling.id for sibling in bea.shown().siblings] == [second.id]
    assert bea.publish([second], C).id in {head.id for head in bea.heads()}  # weaker: based on what NAME shows by now
    assert second.id not in {head.id for head in bea.heads()}


def test_two_writes_of_one_machine_from_one_base() -> None:
    """A push beside a dirty file of the mount: neither has seen the other, so neither may supersede the other."""
    ada, bea = Peer("ada"), Peer("bea")
    base = ada.publish([], A)
    pushed, mounted = ada.publish([base], B), ada.publish([base], C)
    bea.learn(base, mounted, pushed)
    for peer in (ada, bea):
        assert {head.id for head in peer.heads()} == {pushed.id, mounted.id}
        assert len(peer.shown().siblings) == 1


def test_a_rename_over_a_name_not_yet_learned() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    theirs = bea.publish([], B, "b")
    ada.publish([], A, "a")
    source, target = Entry(ada, "a"), Entry(ada, "b")
    moved = _some(target.publish(A))
    source.publish(GONE)
    ada.learn(theirs)
    assert {head.id for head in ada.heads("b")} == {moved.id, theirs.id}
    assert ada.shown("a").name is None


def test_versions_of_another_path_never_enter_a_clock() -> None:
    """ada's b is newer than her a. bea, who moves a over b without having seen ada's b, must not supersede it."""
    ada, bea = Peer("ada"), Peer("bea")
    ada.publish([], A, "b")
    on_a = ada.publish([], A, "a")
    bea.learn(on_a)
    moved = bea.publish([on_a], A, "b")
    assert moved.clock == {"id-bea": 1}
    ada.learn(moved)
    assert len(ada.heads("b")) == 2


# ---- renamed folders


def _rename(peer: Peer, old: str, new: str, *inner: str) -> None:
    """Publish the rename of a folder as the worker does: creations, then tombstones."""
    moving = [Moving(name, peer.shown(f"{old}/{name}").name, peer.shown(f"{new}/{name}")) for name in inner]
    plan = rename_folder(old, new, moving)
    for creation in plan.creations:
        assert creation.source is not None
        fields = Fields(content=creation.source.version.manifest.content_id, moved_from=creation.moved_from)
        peer.publish(peer.seen_versions(creation.seen), fields, creation.path)
    for removal in plan.removals:
        peer.publish(peer.seen_versions(removal.seen), GONE, removal.path)


def test_a_folder_renamed_there_and_back() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    first = ada.publish([], A, "d/x")
    _rename(ada, "d", "e", "x")
    tomb = ada.shown("d/x").dead
    _rename(ada, "e", "d", "x")
    bea.learn(*ada.known.values())
    for peer in (ada, bea):
        name = peer.shown("d/x").name
        assert name is not None
        assert name.version.manifest.content_id == "a"
        assert peer.shown("d/x").siblings == ()
        assert peer.shown("e/x").name is None
    weaker = Peer("cy")  # weaker: the moved file has not seen the tombstone that its new name shows
    weaker.learn(first, *ada.seen_versions(tomb))
    assert len(heads_of([*weaker.heads("d/x"), weaker.publish([], A, "d/x")])) == 2


def test_a_renamed_folder_never_supersedes_what_is_live_at_its_new_name() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    theirs = bea.publish([], B, "e/x")
    ada.publish([], A, "d/x")
    ada.learn(theirs)  # between the rename and the reading of its row
    _rename(ada, "d", "e", "x")
    assert theirs.id in {head.id for head in ada.heads("e/x")}
    assert len(ada.heads("e/x")) == 2


def test_versions_of_the_old_name_that_were_unknown_stay_there() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    first = ada.publish([], A, "d/x")
    bea.learn(first)
    changed = bea.publish([first], B, "d/x")
    _rename(ada, "d", "e", "x")
    ada.learn(changed)
    bea.learn(*ada.known.values())
    assert [sibling.id for sibling in ada.shown("d/x").siblings] == [changed.id]
    name = bea.shown("d/x").name
    assert name is not None
    assert name.version == changed


def test_a_moved_child_that_is_edited_before_the_note_has_seen_the_moved_version() -> None:
    ada = Peer("ada")
    first = ada.publish([], A, "d/x")
    _rename(ada, "d", "e", "x")
    moved = ada.heads("e/x")[0]
    assert moved.manifest.moved_from == PathVersion("d/x", first.id)
    edited = ada.publish([first], B, "e/x")  # its row saw the child at the old path
    assert ada.heads("e/x") == (edited,)
    other = Peer("bea")  # it counts only if it is the very state that was moved
    other.learn(first)
    other.publish([], Fields(content="z", moved_from=PathVersion("d/x", first.id)), "e/x")
    other.publish([first], B, "e/x")
    assert len(other.heads("e/x")) == 2


# ---- tombstones that were forgotten


def test_a_new_file_after_a_pruned_tombstone_is_newer_for_who_still_has_it() -> None:
    ada, bea = Peer("ada"), Peer("bea")
    first = ada.publish([], A)
    tomb = ada.publish([first], GONE)
    bea.learn(tomb)
    ada.known.clear()  # pruned, with all that is known of the path; a counter would start again, the seq does not
    new = ada.publish([], B)
    bea.learn(new)
    assert bea.heads() == (new,)
    assert bea.shown().siblings == ()


def test_a_tombstone_over_a_hole_stays() -> None:
    """cy has bea's tombstone but not ada's version, which arrives late: without the tombstone it would live again."""
    ada, bea, cy = Peer("ada"), Peer("bea"), Peer("cy")
    first = ada.publish([], A)
    bea.learn(first)
    tomb = bea.publish([first], GONE)
    cy.learn(tomb)
    members = ("id-ada", "id-bea", "id-cy")
    applied = {"id-ada": 1, "id-bea": 1}
    with_hole = {"id-ada": applied, "id-bea": applied, "id-cy": {"id-bea": 1}}
    assert not is_prunable(tomb, with_hole, members)
    cy.learn(first)
    assert cy.shown().name is None
    assert is_prunable(tomb, {**with_hole, "id-cy": applied}, members)


# ---- clones


def test_a_clone_publishes_its_queued_versions_again() -> None:
    """Two machines with one id. The one that comes second reads what the first wrote and takes a new id."""
    first, second, reader = Peer("ada"), Peer("ada"), Peer("bea")
    common = first.publish([], A)
    second.learn(common)
    second.seq = 1
    stored = first.publish([common], B)
    queued = [second.publish([common], C)]
    queued.append(second.publish(queued, Fields(content="d")))
    assert queued[0].clock == stored.clock
    assert queued[0].id != stored.id  # one name, but for the hash
    second.known = {common.id: common, stored.id: stored}
    new = [r.version for r in republish(queued, "id-ada2", 1, second.known.get)]
    reader.learn(common, stored, *new)
    assert {head.id for head in reader.heads()} == {stored.id, new[1].id}
    weaker = queued[1]  # under its old clock it would supersede what the other had written
    assert heads_of([stored, weaker]) == (weaker,)


# ---- all of it at once

_FIELDS = st.one_of(
    st.builds(Fields, content=st.sampled_from(("u", "v", "w")), mode=st.sampled_from((0o644, 0o600))), st.just(GONE)
)
_PEERS = st.sampled_from(range(len(MACHINES)))


@dataclass
class Handle:
    """An open file, a plain folder after a pull: something that remembers what it saw, on one machine."""

    peer: int
    seen: list[VersionId]


class Fleet(RuleBasedStateMachine):
    """Machines that write, resolve, learn in any order, and find out that a clone has written under their id.

    `saw` is the truth: for each version all that its writer had seen. Clocks must say exactly that.
    """

    handles: "Bundle[Handle]" = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.peers = [Peer(name) for name in MACHINES]
        self.queued: list[list[Version]] = [[] for _ in MACHINES]
        self.stored: list[Version] = []
        self.saw: dict[str, frozenset[str]] = {}
        self.renamed: dict[str, VersionId] = {}

    def _resolved(self, identities: Iterable[VersionId]) -> list[VersionId]:
        found = []
        for identity in identities:
            while identity in self.renamed:
                identity = self.renamed[identity]
            found.append(identity)
        return found

    def _remember(self, new: Version, seen: Iterable[str]) -> None:
        self.saw[new.id] = frozenset(seen).union(*(self.saw[identity] for identity in seen))

    def _write(self, index: int, seen: Iterable[VersionId], fields: Fields) -> VersionId:
        peer = self.peers[index]
        identities = self._resolved(seen)
        new = peer.publish(peer.seen_versions(identities), fields)
        self._remember(new, identities)
        self.queued[index].append(new)
        return new.id

    @rule(index=_PEERS, fields=_FIELDS)
    def change_name(self, index: int, fields: Fields) -> None:
        shown = self.peers[index].shown()
        here = None if fields.kind is Kind.TOMBSTONE else _state(fields)
        if compare_three(state_of(shown.name), here, False) is Decision.PUBLISH:
            self._write(index, shown.seen, fields)

    @rule(index=_PEERS, take=st.booleans())
    def resolve_a_sibling(self, index: int, take: bool) -> None:
        shown = self.peers[index].shown()
        for sibling in shown.siblings[:1]:
            kept = sibling if take else shown.name.version if shown.name else None
            fields = Fields(content=kept.manifest.content_id) if kept else GONE
            self._write(index, (*shown.seen, *sibling.covers), fields)
            assert sibling.id not in {head.id for head in self.peers[index].heads()}

    @rule(target=handles, index=_PEERS)
    def open(self, index: int) -> Handle:
        return Handle(index, list(self.peers[index].shown().seen))

    @rule(handle=handles, fields=_FIELDS)
    def write_what_was_opened(self, handle: Handle, fields: Fields) -> None:
        handle.seen.append(self._write(handle.peer, handle.seen, fields))

    @rule(target=handles, handle=consumes(handles))
    def close(self, handle: Handle) -> object:
        return multiple()

    @rule(index=_PEERS, count=st.integers(1, 3))
    def upload(self, index: int, count: int) -> None:
        self.stored += self.queued[index][:count]
        del self.queued[index][:count]

    @rule(index=_PEERS, data=st.data())
    def learn_one_in_any_order(self, index: int, data: st.DataObject) -> None:
        unknown = [version for version in self.stored if version.id not in self.peers[index].known]
        if unknown:
            self.peers[index].learn(data.draw(st.sampled_from(unknown)))

    @rule(index=_PEERS, fields=_FIELDS)
    def a_clone_wrote_first(self, index: int, fields: Fields) -> None:
        peer, queued = self.peers[index], self.queued[index]
        for version in queued:  # forgotten
            del peer.known[version.id]
        stored = [version.manifest.seq for version in self.stored if version.manifest.written_by == peer.machine_id]
        clone = Peer(peer.name)
        clone.machine_id, clone.seq, clone.known = peer.machine_id, max(stored, default=0), dict(peer.known)
        shown = clone.shown()
        theirs = clone.publish(clone.seen_versions(shown.seen), fields)
        self._remember(theirs, shown.seen)
        self.stored.append(theirs)

        peer.learn(theirs)
        peer.machine_id += "+"
        peer.ids.add(peer.machine_id)
        lost = [version for version in queued if version.id != theirs.id]  # if it wrote the very same, that is stored
        again = republish(lost, peer.machine_id, 1, peer.known.get)
        peer.seq = len(again)
        for each in again:
            self._remember(each.version, self._resolved(VersionId(i) for i in self.saw.pop(each.old)))
            self.renamed[each.old] = each.version.id
            peer.learn(each.version)
        self.queued[index] = [each.version for each in again]

    @invariant()
    def what_no_other_writer_has_seen_is_a_head_and_nothing_else(self) -> None:
        for peer in self.peers:
            passed = frozenset[str]().union(*(self.saw[identity] for identity in peer.known))
            assert {head.id for head in peer.heads()} == set(peer.known) - passed

    @invariant()
    def every_live_head_is_shown(self) -> None:
        for peer in self.peers:
            shown = peer.shown()
            found = {*(shown.name.covers if shown.name else ()), *(i for s in shown.siblings for i in s.covers)}
            assert found == {head.id for head in peer.heads() if head.is_live}

    def teardown(self) -> None:
        everything = [*self.stored, *(version for queue in self.queued for version in queue)]
        for peer in self.peers:
            peer.learn(*everything)
        assert all(peer.heads() == self.peers[0].heads() for peer in self.peers)
        self.what_no_other_writer_has_seen_is_a_head_and_nothing_else()
        self.every_live_head_is_shown()
        for one in everything:
            for other in everything:
                assert (compare(one.clock, other.clock) is Order.BEFORE) == (one.id in self.saw[other.id])


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=40, stateful_step_count=40)
