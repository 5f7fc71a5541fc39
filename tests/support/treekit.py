"""Machines for tests of the tree: a Tree over a real fleet.db, an engine that publishes at once into it, and no store.

Contents lie in a dict shared by the machines of a fleet; versions go from machine to machine by `learn`.
"""

from pathlib import Path
from typing import Self

import blake3

from fs.tree import feed, note, sealing
from fs.tree.check import check_state
from fs.tree.files import OpenFile
from fs.tree.model import DIR, FILE, ROOT_ID, SYMLINK, Attr, Invalidation
from fs.tree.tree import Tree
from fs.work.stack import BasePiece, LocalPiece
from sync.core.errors import NotFound, Stale
from sync.core.manifest import Clocks, Kind, Manifest, PathVersion, Version, encode_record, version_id
from sync.core.plan import State, batch_order, new_clock, state_of
from sync.core.show import Mode
from sync.env import FakeClock, FakeEnv
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths, Home
from sync.state.rows import NodePlace
from sync.state.tree.reader import Seal, TreeReader, layer_path
from sync.state.writer import Transaction
from sync.worker.change import Change, Content, FolderMove
from sync.worker.decide import Publish, decide
from sync.worker.movedir import moved_changes, show_path

FLEET = "f1ee7000-0000-4000-8000-000000000000"
KINDS = {FILE: Kind.FILE, DIR: Kind.DIR, SYMLINK: Kind.SYMLINK}


class Fleet:
    """What machines of one fleet have in common. As a context: every machine is checked at its end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.contents: dict[str, bytes] = {}
        self.records: list[tuple[str, bytes]] = []  # (machine_id, line), in the order of publishing
        self.machines: list[Machine] = []

    def machine(self, name: str = "yoga", mode: Mode = Mode.INTERACTIVE) -> "Machine":
        machine = Machine(self, name, mode)
        self.machines.append(machine)
        return machine

    def content_of(self, data: bytes) -> Content:
        if not data:
            return Content(0, "")
        content_id = blake3.blake3(data).hexdigest()
        self.contents[content_id] = data
        return Content(len(data), content_id, chunks=[content_id], chunk_sizes=[len(data)])

    def close(self) -> None:
        for machine in self.machines:
            machine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                for machine in self.machines:
                    machine.check()
        finally:
            self.close()


class Machine:
    """One member: its mount's tree and its engine."""

    def __init__(self, fleet: Fleet, name: str, mode: Mode) -> None:
        self.fleet = fleet
        self.name = name
        self.mode = mode
        number = len(fleet.machines) + 1
        self.machine_id = f"0000000{number}-0000-4000-8000-000000000000"
        self.env = FakeEnv(number, fleet.clock)
        self.engine_env = FakeEnv(100 + number, fleet.clock)
        self.paths: FleetPaths = Home.from_environ({"TCFS_HOME": str(fleet.root / name)}).new_fleet(FLEET)
        self.db = self._new_db()
        self.learned = 0
        self.tree = Tree.load(self.env, self.paths, uid=1000, gid=1000)
        self.files: list[OpenFile] = []
        self.told: list[Invalidation] = []

    def _new_db(self) -> FleetDb:
        return FleetDb.create(self.engine_env, self.paths.fleet_db, FLEET, self.machine_id, self.name, mode=self.mode)

    def close(self) -> None:
        self.tree.abandon()
        self.db.close()

    def restart(self, *, boot: str | None = None) -> None:
        """Kill the mount, as by SIGKILL, and start it again. boot: the machine was started anew."""
        self.tree.abandon()
        old = self.env
        self.env = FakeEnv(int.from_bytes(old._random.randbytes(4)), self.fleet.clock, boot or old.boot)
        self.files = []
        self.tree = Tree.load(self.env, self.paths, uid=1000, gid=1000)

    def lose_fleet_db(self) -> None:
        """fleet.db is gone; the engine has made a new one under a new machine_id and learned all there is."""
        self.tree.abandon()
        self.db.close()
        for path in self.paths.state_dir.glob("fleet.db*"):
            path.unlink()
        self.machine_id = self.machine_id[:-1] + format((int(self.machine_id[-1], 16) + 1) % 16, "x")
        self.db = self._new_db()
        self.learned = 0
        self.learn()
        self.tree = Tree.load(self.env, self.paths, uid=1000, gid=1000)

    # ---- what a user does, by path

    def place(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return (self.ino(folder) if folder else ROOT_ID), name

    def attr(self, path: str) -> Attr:
        if not path:
            return self.tree.attr(ROOT_ID)
        attr = self.tree.lookup(*self.place(path))
        self.tree.forget(attr.ino, 1)
        return attr

    def ino(self, path: str) -> int:
        return self.attr(path).ino

    def exists(self, path: str) -> bool:
        try:
            self.attr(path)
        except NotFound:
            return False
        return True

    def open(self, path: str, *, write: bool = False, truncate: bool = False) -> OpenFile:
        """As the kernel does it: after ESTALE the name is looked up again."""
        parent, name = self.place(path)
        for _ in range(2):
            attr = self.tree.lookup(parent, name)
            try:
                file = self.tree.open(attr.ino, write=write, truncate=truncate)
            except Stale:
                continue
            self.files.append(file)
            return file
        raise AssertionError("stale after a fresh lookup")

    def release(self, file: OpenFile) -> None:
        file.flush()
        file.release()
        self.files.remove(file)
        if file.node.unlinked:
            self._kernel_forgets(file.node.id)

    def fsync(self, file: OpenFile) -> None:
        sync = file.sync_begin()
        assert sync is not None
        sync.data()
        file.sync_end(sync)
        sync.rows()

    def create(self, path: str, mode: int = 0o644) -> OpenFile:
        attr = self.tree.create(*self.place(path), FILE, mode, 1000, 1000)
        file = self.tree.open(attr.ino, write=True)
        self.files.append(file)
        return file

    def write(self, path: str, data: bytes) -> None:
        """As `echo > path`."""
        file = self.open(path, write=True, truncate=True) if self.exists(path) else self.create(path)
        if data:
            assert file.write(0, data) == len(data)
        self.release(file)

    def patch(self, path: str, offset: int, data: bytes) -> None:
        file = self.open(path, write=True)
        file.write(offset, data)
        self.release(file)

    def mkdir(self, path: str, mode: int = 0o755) -> int:
        return self.tree.create(*self.place(path), DIR, mode, 1000, 1000).ino

    def symlink(self, path: str, target: str) -> None:
        self.tree.create(*self.place(path), SYMLINK, 0o777, 1000, 1000, target)

    def link(self, old: str, new: str) -> None:
        self.tree.link(self.ino(old), *self.place(new))

    def unlink(self, path: str) -> None:
        attr = self.attr(path)
        self.tree.unlink(*self.place(path))
        if attr.nlink == 1:
            self._kernel_forgets(attr.ino)

    def rmdir(self, path: str) -> None:
        self.tree.rmdir(*self.place(path))

    def rename(self, old: str, new: str, *, noreplace: bool = False) -> None:
        replaced = self.attr(new) if self.exists(new) and old != new else None
        self.tree.rename(*self.place(old), *self.place(new), noreplace)
        if replaced is not None and replaced.nlink == 1:
            self._kernel_forgets(replaced.ino)

    def _kernel_forgets(self, ino: int) -> None:
        """As the kernel does with an inode that has lost its name, once nobody has it open."""
        known = self.tree.state.inodes.known.get(ino)
        if known is not None and all(file.node.id != ino for file in self.files):
            self.tree.forget(ino, known.count)

    def bytes_of(self, file: OpenFile) -> bytes:
        """All that the handle reads."""
        parts = []
        for piece in file.pieces(0, 1 << 40):
            if isinstance(piece, LocalPiece):
                data = b""
                with open(piece.fd, "rb", closefd=False) as source:
                    source.seek(piece.offset)
                    data = source.read(piece.length)
                assert len(data) == piece.length
                parts.append(data)
            elif isinstance(piece, BasePiece):
                manifest = self.tree.state.view.manifest(piece.version)
                whole = self.fleet.contents[manifest.content_id]
                parts.append(whole[piece.offset : piece.offset + piece.length])
                assert len(parts[-1]) == piece.length
            else:
                parts.append(bytes(piece.length))
        return b"".join(parts)

    def read(self, path: str) -> bytes:
        file = self.open(path)
        data = self.bytes_of(file)
        self.release(file)
        assert len(data) == self.attr(path).size
        return data

    def listing(self, path: str = "") -> list[str]:
        names: list[str] = []
        while page := self.tree.read_dir(self.ino(path), names[-1] if names else "", 3):
            names += [name for name, _ in page]
        return names

    def walk(self, path: str = "") -> dict[str, object]:
        """path -> bytes of a file, None of a directory, target of a symlink; siblings included."""
        found: dict[str, object] = {}
        for name in self.listing(path):
            inner = f"{path}/{name}" if path else name
            attr = self.attr(inner)
            if attr.kind == DIR:
                found[inner] = None
                found |= self.walk(inner)
            else:
                found[inner] = self.read(inner) if attr.kind == FILE else self.tree.readlink(attr.ino)
        return found

    def linked(self, path: str = "") -> list[list[str]]:
        """The names of each file that has several; checks that stat says so."""
        names: dict[int, list[str]] = {}
        attrs, waiting = [], [path]
        while waiting:
            folder = waiting.pop()
            for name in self.listing(folder):
                inner = f"{folder}/{name}" if folder else name
                attr = self.tree.lookup(*self.place(inner))
                attrs.append(attr)
                if attr.kind == DIR:
                    waiting.append(inner)
                else:
                    names.setdefault(attr.ino, []).append(inner)
        for attr in attrs:
            self.tree.forget(attr.ino, 1)
            assert attr.kind == DIR or attr.nlink == len(names[attr.ino]), (attr, names[attr.ino])
        return sorted(sorted(paths) for paths in names.values() if len(paths) > 1)

    # ---- what happens by itself

    def seal(self, paths: list[str] | None = None, **how: bool) -> list[Seal]:
        """One round; the seals of tree.db afterwards."""
        seal_round = sealing.begin(self.tree.state, paths, **how)
        seal_round.sync()
        sealing.finish(self.tree.state, seal_round)
        return self.seals()

    def seals(self) -> list[Seal]:
        reader = TreeReader(self.engine_env, self.paths.tree_db)
        try:
            return reader.seals()
        finally:
            reader.close()

    def note(self) -> None:
        self.told += note.note(self.tree.state)
        self.told += feed.feed(self.tree.state)

    def cycle(self) -> None:
        """Seal, publish and note until nothing is left to be done."""
        for _ in range(6):
            self.seal()
            self.publish()
            self.note()
            if not self.tree.state.pending and not self.tree.overlay.seals:
                return

    def publish(self) -> list[str]:
        """The engine's part: answers to all seals that have none."""
        reader = TreeReader(self.engine_env, self.paths.tree_db)
        answers: list[str] = []
        try:
            seals = [seal for seal in reader.seals() if self.db.view.answer(seal.seal_id) is None]
            for number in sorted({seal.round for seal in seals}):
                batch: list[Seal] = []
                for seal in (seal for seal in seals if seal.round == number):
                    if seal.op == "movedir":
                        answers += self._publish_batch(batch, reader)
                        answers.append(self._publish_move(seal))
                        batch = []
                    else:
                        batch.append(seal)
                answers += self._publish_batch(batch, reader)
        finally:
            reader.close()
        return answers

    def learn(self) -> None:
        """Insert what the others have published."""
        new = self.fleet.records[self.learned :]
        self.learned = len(self.fleet.records)
        with self.db.transaction() as txn:
            for machine_id, line in new:
                if machine_id != self.machine_id:
                    txn.insert(machine_id, line)

    def check(self) -> None:
        found = check_state(self.tree.state)
        assert not found, found

    # ---- the engine

    def _publish_batch(self, seals: list[Seal], reader: TreeReader) -> list[str]:
        if not seals:
            return []
        changes = [self._change(seal, reader) for seal in seals]
        with self.db.transaction() as txn:
            return self._write(txn, changes)

    def _publish_move(self, seal: Seal) -> str:
        assert seal.from_path is not None
        place = NodePlace(seal.node, seal.dir_ids, seal.ctime_ns or 0, seal.uid, seal.gid)
        move = FolderMove(
            seal.from_path,
            seal.path,
            seal.mode or 0,
            seal.mtime_ns or 0,
            seal.xattrs,
            place,
            seal.seal_id,
            frozenset(seal.seen),
            seal.owner,
            seal.owner_group,
        )
        with self.db.transaction() as txn:
            changes = moved_changes(self.db, move, txn.versions)
            assert seal.node is not None
            txn.move_dir(seal.node, move.old_path, move.new_path)
            self._write(txn, changes)
            head = show_path(self.db, seal.path).name
            assert head is not None
            txn.answer(seal.seal_id, "queued", head.version.id)
        return "queued"

    def _write(self, txn: Transaction, changes: list[Change]) -> list[str]:
        answers: list[str] = []
        own = self.db.own_ids
        seq = self.db.next_seq
        for change in batch_order(changes, lambda change: change.is_removal):
            heads = self.db.heads(change.path)
            name = show_path(self.db, change.path).name
            shown = state_of(name) if name is not None and set(change.seen).issuperset(name.covers) else None
            decided = decide(change, _state(change), shown, heads, _Find(self.db), self.machine_id, own)
            version = None
            if isinstance(decided, Publish):
                stamp = new_clock(self.machine_id, seq, decided.seen, self.db.own_numbers(change.path))
                version = self._insert(txn, change, seq, stamp.clock, list(stamp.parents))
                seq += 1
            answers.append("queued" if version is not None else "unchanged")
            if change.seal_id is not None:
                txn.answer(change.seal_id, answers[-1], version)
        txn.set_meta("next_seq", seq)
        return answers

    def _insert(self, txn: Transaction, change: Change, seq: int, clock: dict[str, int], parents: list[str]) -> str:
        manifest = Manifest(
            version=2,
            seq=seq,
            rel_path=change.path,
            kind=change.kind,
            vclock=Clocks(clock),
            written_by=self.machine_id,
            machine_name=self.name,
            written_at=int(self.engine_env.now()),
            mode=change.mode,
            mtime_ns=change.mtime_ns,
            xattrs=dict(change.xattrs),
            link_id=change.link_id,
            owner=change.owner,
            group=change.group,
            target=change.target,
            parents=parents,
            moved_from=change.moved_from,
            moved_to=PathVersion(change.moved_to) if change.moved_to else None,
            **_content_fields(change.source if isinstance(change.source, Content) else None),
        )
        line = encode_record(manifest)
        identity = version_id(self.machine_id, seq, line)
        txn.insert_version(line, Version(identity, manifest), change.place)
        self.fleet.records.append((self.machine_id, line))
        return identity

    def _change(self, seal: Seal, reader: TreeReader) -> Change:
        common = {"seen": frozenset(seal.seen), "last": seal.last, "resolved": seal.resolved, "seal_id": seal.seal_id}
        if seal.op == "remove":
            return Change(seal.path, Kind.TOMBSTONE, moved_to=seal.moved_to or "", **common)
        assert seal.kind is not None
        kind = KINDS[seal.kind]
        data = self._bytes(seal, reader) if kind is Kind.FILE else b""
        return Change(
            seal.path,
            kind,
            source=self.fleet.content_of(data) if kind is Kind.FILE else None,
            mode=seal.mode or 0,
            mtime_ns=seal.mtime_ns or 0,
            xattrs=seal.xattrs,
            target=seal.target or "",
            moved_from=seal.moved_from,
            link_id=seal.link_id,
            owner=seal.owner,
            group=seal.owner_group,
            place=NodePlace(seal.node, seal.dir_ids, seal.ctime_ns or 0, seal.uid, seal.gid),
            **common,
        )

    def _bytes(self, seal: Seal, reader: TreeReader) -> bytes:
        assert seal.size is not None
        base = b""
        if seal.base is not None:
            base = self.fleet.contents.get(self.db.view.manifest(seal.base).content_id, b"")
        if seal.layer is None:
            assert len(base) == seal.size
            return base
        data = bytearray(seal.size)
        data[: seal.limit_below] = base[: seal.limit_below].ljust(seal.limit_below or 0, b"\0")
        layer = layer_path(self.paths.work_dir, seal.layer).read_bytes()
        for start, end in reader.spans(seal.layer):
            assert end <= seal.size
            data[start:end] = layer[start:end].ljust(end - start, b"?")
        assert len(data) == seal.size
        return bytes(data)


class _Find:
    def __init__(self, db: FleetDb) -> None:
        self._db = db

    def find(self, identity: str) -> Version | None:
        return self._db.version(identity)


def _state(change: Change) -> State | None:
    if change.is_removal:
        return None
    content_id = change.source.content_id if isinstance(change.source, Content) else ""
    fields = (change.mode, change.xattrs, change.mtime_ns, change.link_id, change.owner, change.group)
    return State(change.kind, content_id, change.target, *fields)


def _content_fields(content: Content | None) -> dict[str, object]:
    if content is None:
        return {}
    return {
        "file_size": content.file_size,
        "content_id": content.content_id,
        "chunks": content.chunks,
        "chunk_sizes": content.chunk_sizes,
    }
