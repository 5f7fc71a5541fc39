"""Taking note of answers: what was published becomes the base, and rows that hold nothing newer go.

What one answer does is in answer.py; here are many of them in one commit, and those of a file with several names, which
are noted together. A complete layer becomes a whole file of the cache before the commit; if that is cut off, the layer
is missing when the same answer is read again, and that is all there is to know.
"""

from fs.tree import keepers, links, siblings, whole
from fs.tree.answer import Note, version_of
from fs.tree.model import Entry, Invalidation, Node
from fs.tree.state import State
from sync.state.rows import ShownRow

NOTES_MAX = 1000


def taken_upto(st: State) -> int:
    """The last answer noted."""
    return int(st.overlay.meta("taken_upto") or 0)


def has_answers(st: State) -> bool:
    return bool(st.overlay.seals) and bool(st.view.taken_after(taken_upto(st), 1))


def copies_ahead(st: State, limit: int = NOTES_MAX) -> list[whole.Copy]:
    """The complete layers that the next `limit` answers let go of, where they cannot be renamed into the cache: to be
    copied, by a thread, before `note`.
    """
    if not st.whole_is_elsewhere:
        return []
    found: list[whole.Copy] = []
    for answer in st.view.taken_after(taken_upto(st), limit):
        ref = st.overlay.seals.get(answer.seal_id)
        node = st.overlay.node(ref.node) if ref is not None and ref.node is not None else None
        if ref is None or node is None or node.seal_id != ref.seal_id or node.layer is None:
            continue
        target = whole.place(st, node.layer, ref.size, version_of(ref, answer))
        if target is not None:
            found.append(whole.Copy(node.layer.path, target.path, ref.size))
    return found


def note(st: State, limit: int = NOTES_MAX) -> list[Invalidation]:
    """Take note of up to `limit` answers and commit, if the disk has room. What the kernel has to forget."""
    answers = st.view.taken_after(taken_upto(st), limit)
    if not answers:
        return []
    found: list[Invalidation] = []
    is_moved = False
    with st.view.snapshot():  # one moment for all, and one lock instead of ten an answer
        for answer in answers:
            ref = st.overlay.seals.get(answer.seal_id)
            if answer.version is not None:
                st.noted_versions[answer.version] = None
            if ref is not None and ref.group is not None:
                found += _note_names(st, ref.group)
            elif ref is not None:
                found += Note(st, ref, answer).apply()
                is_moved |= ref.folder is not None
        if is_moved:
            st.forget_paths()  # once: to find all of them again takes long where many folders are gone
        st.overlay.set_meta("taken_upto", answers[-1].n)
        siblings.drop_settled(st)
        found += keepers.drop_settled(st)
    _forget_old(st)
    st.env.fault("note.before_commit")
    st.overlay.try_commit()  # else later: what is noted twice is noted once
    st.env.fault("note.after_commit")
    return found


def _note_names(st: State, group: bytes) -> list[Invalidation]:
    """The answers to the seals of all names of one file: the engine gives them together."""
    answers = ((ref, st.view.answer(ref.seal_id)) for ref in list(st.overlay.seals.groups.get(group, ())))
    notes = [Note(st, ref, answer) for ref, answer in answers if answer is not None]
    node = next((note.node for note in notes if note.node is not None), None)
    taken = next((note for note in notes if not note.is_refused), notes[0])
    is_as_sealed = any(note.is_node_as_sealed for note in notes)
    if node is not None:
        taken.settle_node(node)
    for note in notes:
        note.node, note.is_node_as_sealed = node, is_as_sealed
    sealed = {key for note in notes for key in note.unchanged_keys()}
    if node is None or any(note.is_refused for note in notes) or not sealed.issuperset(node.keys):
        return [item for note in notes for item in note.settle(may_drop=False)]
    return _drop_names(st, node, notes)


def _drop_names(st: State, node: Node, notes: list[Note]) -> list[Invalidation]:
    """All that was sealed is published: the rows of all names go."""
    found: list[Invalidation] = []
    names: list[tuple[Note, Entry]] = []
    for note in notes:
        for entry in note.held():
            if entry.node == node.id:
                note.take(entry)
                names.append((note, entry))
            else:
                found += note.settle_entry(entry)
        note.finish()
    for _, entry in names:
        st.drop_entry(entry)
    rows = [st.view.lookup(*entry.key) for _, entry in names]
    ranks = [_rank(st, node, row, note) for (note, _), row in zip(names, rows, strict=True)]
    chosen = ranks.index(max(ranks))
    note, entry = names[chosen]
    node.set_keys(())
    found += note.drop_node(entry, node, rows[chosen])
    for n, ((_, entry), row) in enumerate(zip(names, rows, strict=True)):
        if n == chosen:
            continue
        number = st.inodes.number(links.number_of(st, row)) if row is not None else None
        if row is None or number != node.id or row.value != node.value:
            found.append(Invalidation(entry.parent, entry.name, node.id, "entry"))
    return found


def _rank(st: State, node: Node, row: ShownRow | None, note: Note) -> int:
    """How well a row stands for the node."""
    if row is None or row.kind != node.kind:
        return 0
    is_same = row.value == note.value(row)
    return 1 + is_same + (is_same and row.number == node.id)


def _forget_old(st: State) -> None:
    if len(st.noted_at) > 10_000:
        st.noted_at = {key: at for key, at in st.noted_at.items() if st.was_noted_recently(key)}
