"""Editors and tools of every day on the mount: they work as on a local disk, and the other machine sees the same.

The programs are Debian's. What is not there is installed when its test runs, by scripts/tools.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll
from saving import SAVES
from toolkit import agree, in_terminal, need, sh

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

SUPPORT = Path(__file__).parent / "support"
GIT = {
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip


class Place:
    """A folder of its own in the mount of one machine, and what the other one makes of it."""

    def __init__(self, here: Machine, there: Machine, name: str) -> None:
        self.here, self.there, self.name = here, there, name
        self.path = here.mountpoint / name
        self.path.mkdir()

    def sh(self, script: str, *, timeout: float = 120, **environ: str) -> str:
        return sh(script, self.path, timeout=timeout, **environ)

    def agree(self, **options: Callable[[str], bool]) -> set[str]:
        """Both see the same, and fsck is content; the paths."""
        return set(agree(self.here, self.there, self.name, **options))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    """yoga and bates, where .git travels like everything else."""
    base = tmp_path_factory.mktemp("tools")
    yoga, bates = Machine(base / "yoga", "yoga"), Machine(base / "bates", "bates")
    try:
        yoga.init(base / "store")
        bates.init(base / "store", key_from=yoga)
        for machine in (yoga, bates):
            machine.environ["TCFS_SYNC_GIT"] = "raw"
            machine.up()
        yield yoga, bates
    finally:
        for machine in (yoga, bates):
            machine.destroy()


@pytest.fixture
def place(pair: tuple[Machine, Machine], request: pytest.FixtureRequest) -> Place:
    return Place(*pair, request.node.name.replace("/", "-"))


# ---- editors


@pytest.mark.parametrize("backup", ["no", "yes", "auto"])
def test_vim(place: Place, backup: str) -> None:
    """Writing in place, by a rename, and as vim thinks best; with swap, backup and undo files."""
    need("vim")
    (place.path / "f").write_text("one\ntwo\n")
    (place.path / "f").chmod(0o640)
    settings = f"set backup writebackup undofile backupcopy={backup} undodir=. backupdir=. directory=. backupskip="
    for n in range(3):
        place.sh(f"vim -Nu NONE -es -c '{settings}' -c '%s/$/{n}/' -c 'wq' f")
    assert (place.path / "f").read_text() == "one012\ntwo012\n"
    assert (place.path / "f").stat().st_mode & 0o777 == 0o640
    assert (place.path / "f~").read_text() == "one01\ntwo01\n"
    assert place.agree() == {"f", "f~", ".f.un~"}


def test_vim_on_a_terminal(place: Place) -> None:
    """Its swap file warns a second vim, and stays on this machine."""
    need("vim")
    keys = [("VIM", "itext\x1b:w new\r"), ("new", ":!ls -a > listed\r"), ("Press ENTER", "\r:q!\r")]
    in_terminal(["vim", "-Nu", "NONE"], keys, place.path)
    keys = [("text", "A more\x1b:w\r"), ("written", ":!ls -a > listed\r"), ("Press ENTER", "\r:q!\r")]
    in_terminal(["vim", "-Nu", "NONE", "new"], keys, place.path)
    assert ".new.swp" in (place.path / "listed").read_text()
    assert (place.path / "new").read_text() == "text more\n"
    assert place.agree() == {"new", "listed"}


def test_nano(place: Place) -> None:
    need("nano")
    (place.path / "f").write_text("before\n")
    keys = [("before", "typed \x0f"), ("File Name to Write", "\r"), ("Wrote", "\x18")]
    in_terminal(["nano", "-I", "f"], keys, place.path)
    assert (place.path / "f").read_text() == "typed before\n"
    in_terminal(
        ["nano", "-I", "-B", "-G", "f"], [("typed", "more \x0f"), ("to Write", "\r"), ("Wrote", "\x18")], place.path
    )
    assert (place.path / "f").read_text() == "more typed before\n"
    assert place.agree() == {"f", "f~"}


@pytest.mark.long
@pytest.mark.parametrize("by_copying", ["t", "nil"])
def test_emacs(place: Place, by_copying: str) -> None:
    need("emacs-nox")
    (place.path / "f").write_text("one\n")
    lisp = (
        f"(progn (setq backup-by-copying {by_copying} create-lockfiles t backup-enable-predicate (lambda (n) t)) "
        '(dotimes (n 3) (find-file "f") (goto-char (point-max)) (insert (format "line %d\\n" n)) '
        "(do-auto-save) (save-buffer) (kill-buffer)))"
    )
    place.sh(f"emacs --batch -Q --eval '{lisp}'", HOME=str(place.here.home))
    assert (place.path / "f").read_text() == "one\nline 0\nline 1\nline 2\n"
    assert place.agree() == {"f", "f~"}


def test_ways_of_saving(place: Place) -> None:
    """Again and again, faster than it is published, and once more after it was; the other machine sees no half."""
    files = {save: place.path / save.__name__ / "doc.md" for save in SAVES}
    for file in files.values():
        file.parent.mkdir()
        file.write_text("0" * 5000)
        file.chmod(0o644)
    place.here.run("wait")
    for n in range(1, 21):
        for save, file in files.items():
            save(file, str(n % 10) * 5000)
            assert file.read_text() == str(n % 10) * 5000
            with contextlib.suppress(FileNotFoundError):  # as here, while it is being renamed
                content = (place.there.mountpoint / place.name / save.__name__ / "doc.md").read_text()
                assert set(content) <= {content[:1]} and len(content) in (0, 5000)
    place.here.run("wait")
    for save, file in files.items():
        save(file, "last")
    ways = {save.__name__ for save in SAVES}
    assert place.agree() == {*ways, *(f"{way}/doc.md" for way in ways), "save_with_backup/doc.md~"}
    assert (place.there.mountpoint / place.name / "save_safely" / "doc.md").read_text() == "last"


# ---- tools


def test_sed_in_place(place: Place) -> None:
    place.sh(
        """
        printf 'a\\nb\\n' > f; chmod 640 f
        sed -i s/a/c/ f
        sed -i.bak s/c/d/ f
        test "$(cat f)" = $'d\\nb'; test "$(cat f.bak)" = $'c\\nb'; test "$(stat -c %a f)" = 640
        """
    )
    assert place.agree() == {"f", "f.bak"}


def test_rsync(place: Place, tmp_path: Path) -> None:
    """The second time nothing is transferred; also not when everything is published, nor on the other machine."""
    need("rsync")
    make_tree(tmp_path / "src")
    place.sh(f"rsync -a {tmp_path}/src/ t/")
    assert place.sh(f"rsync -ai {tmp_path}/src/ t/") == ""
    place.agree()
    assert place.sh(f"rsync -ai {tmp_path}/src/ t/") == ""
    # There folders may tell when the last of what is in them was published.
    assert sh(f"rsync -aiO {tmp_path}/src/ t/", place.there.mountpoint / place.name) == ""
    place.sh(f"rsync -a --inplace --checksum {tmp_path}/src/ t/; rsync -a --delete t/ copy/; diff -r t copy")
    place.sh(f"rm {tmp_path}/src/d0/f0; echo new > {tmp_path}/src/d1/f1; rsync -a --delete {tmp_path}/src/ t/")
    assert place.sh(f"diff -r {tmp_path}/src t") == ""


def make_tree(root: Path, folders: int = 5, files: int = 12) -> None:
    for d in range(folders):
        (root / f"d{d}").mkdir(parents=True)
        for n in range(files):
            (root / f"d{d}" / f"f{n}").write_bytes(os.urandom(n * 997))
            os.utime(root / f"d{d}" / f"f{n}", ns=(0, 1_600_000_000_123_456_789 + n))
    (root / "link").symlink_to("d0/f1")
    (root / "script").write_text("#!/bin/sh\necho runs\n")
    (root / "script").chmod(0o755)


def test_git(place: Place, tmp_path: Path) -> None:
    """A whole life of a repository; in the end the other machine goes on in it."""
    make_tree(tmp_path / "origin")
    sh("git init -q -b main; git add .; git commit -qm one; git tag one", tmp_path / "origin", **GIT)
    place.sh(
        f"""
        git clone -q {tmp_path}/origin r; cd r
        test -z "$(git status --porcelain)"
        for n in 1 2 3 4 5; do echo $n >> d0/f1; git mv d1/f$n d1/g$n; git commit -qam $n; done
        git checkout -qb other HEAD~3; echo other > o; git add o; git commit -qm o
        git checkout -q main; git merge -q -m merged other
        git stash list; echo x >> script; git stash -q; git stash pop -q; git checkout -q script
        git worktree add -q ../w one; test -z "$(git -C ../w status --porcelain)"
        git gc -q --prune=now; git fsck --strict; git repack -adq; git fsck
        git clone -q . ../local; git -C ../local fsck
        test -z "$(git status --porcelain)"
        """,
        **GIT,
    )
    place.agree()
    there = place.there.mountpoint / place.name / "r"
    sh('test -z "$(git status --porcelain)"; git fsck; echo there > t; git add t; git commit -qm there', there, **GIT)
    agree(place.there, place.here, place.name)
    assert place.sh("cd r; git fsck; git log --format=%s -1; git status --porcelain", **GIT) == "there\n"


def test_make(place: Place) -> None:
    """What is up to date is not made again: neither at once, nor when it is published, nor on the other machine."""
    (place.path / "Makefile").write_text("prog: a.o b.o\n\tcc -o $@ $^\n%.o: %.c h.h\n\tcc -c $< -o $@\n")
    (place.path / "h.h").write_text("int f(void);\n")
    (place.path / "a.c").write_text('#include "h.h"\nint main(void) { return f(); }\n')
    (place.path / "b.c").write_text('#include "h.h"\nint f(void) { return 0; }\n')
    place.sh("make -j2; ./prog; make -q")
    place.agree()
    place.sh("make -q")
    sh("make -q; ./prog", place.there.mountpoint / place.name)
    assert "cc -c a.c" in place.sh("touch a.c; make")
    assert "cc -c b.c" in place.sh("echo >> h.h; make")
    place.sh("make -q; ./prog")
    assert place.agree() == {"Makefile", "h.h", "a.c", "b.c", "a.o", "b.o", "prog"}


def test_times_go_forward(place: Place) -> None:
    """make compares what compilers write with what `touch` stamps."""
    last = 0
    changes = (lambda file: file.write_text("x"), os.utime, lambda file: os.truncate(file, 10))
    for n in range(100):
        file = place.path / f"f{n % 7}"
        for change in changes:
            change(file)
            assert file.stat().st_mtime_ns >= last
            last = file.stat().st_mtime_ns


def test_tar(place: Place, tmp_path: Path) -> None:
    make_tree(tmp_path / "src")
    place.sh(
        f"""
        tar -C {tmp_path} -cf t.tar src; tar -xf t.tar; tar -df t.tar
        diff -r {tmp_path}/src src; test "$(stat -c %a src/script)" = 755; src/script
        tar -czf t.tgz src; tar -tzf t.tgz > list; tar -rf t.tar list; tar -tf t.tar | grep -qx list
        """
    )
    place.agree()


def test_cp(place: Place, tmp_path: Path) -> None:
    """Here programs meet copy_file_range, FICLONE (EOPNOTSUPP) and SEEK_HOLE."""
    make_tree(tmp_path / "src")
    place.sh(
        f"""
        cp -a --reflink=auto {tmp_path}/src t; diff -r {tmp_path}/src t
        cp -a --reflink=auto t t2; diff -r t t2; test -z "$(find t2 -newer t/script)"
        ! cp --reflink=always t/script s 2> said; grep -q 'not supported' said; rm -f s
        truncate -s 10M hole; echo x >> hole; cp --sparse=always hole hole2; cmp hole hole2
        cp t/script t/d0/f1; cp --backup=numbered t/script t/d0/f2; cp -p --attributes-only t/script t/d0/f3
        mv t/d0 t/moved; mv t2 t/moved/; dd if=t/script of=dd conv=notrunc,fsync status=none; install -m 700 dd i
        """
    )
    place.agree()


def test_tail_of_what_another_machine_appends_to(place: Place, tmp_path: Path) -> None:
    """By its name it is followed from one file to the next; what is open stays as it was opened."""
    log, there = place.path / "log", place.there.mountpoint / place.name / "log"
    log.write_text("first\n")
    place.agree()
    running, followed = {}, {}
    for way in ("-f", "-F"):
        followed[way] = tmp_path / way
        with followed[way].open("w") as out:
            command = ["tail", "-n", "+1", "-s", "0.1", "--max-unchanged-stats=1", way, str(there)]
            running[way] = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    try:
        for way, out in followed.items():
            poll(lambda out=out: out.read_text() == "first\n", 30, f"tail {way} has begun")
        with log.open("a") as opened:
            opened.write("second\n")
        poll(lambda: followed["-F"].read_text() == "first\nfirst\nsecond\n", 30, "the new state, from its beginning")
        assert followed["-f"].read_text() == "first\n"
    finally:
        for process in running.values():
            process.kill()
            process.wait()


# ---- databases


@pytest.mark.parametrize("mode", ["WAL", "DELETE", pytest.param("TRUNCATE", marks=pytest.mark.long)])
def test_sqlite(place: Place, mode: str) -> None:
    """Two writers at once; one that is killed; the mount killed under one. What was committed is there, and whole.

    In DELETE mode the removal of the journal is the commit, and a removal is on disk some moments later: a mount that
    is killed may lose the last one, as a power cut may on a local disk.
    """
    file = place.path / "x.db"
    writers = [sqlite_writer(file, mode, name, 40) for name in ("a", "b")]
    for writer in writers:
        assert len(last_words(writer)) == 41
        assert writer.wait(60) == 0
    assert (rows(file, "a"), rows(file, "b")) == (40, 40)

    writer = sqlite_writer(file, mode, "killed", 10**6)
    said = [writer.stdout.readline() for _ in range(30)]
    writer.kill()
    said += last_words(writer)
    writer.wait()
    assert rows(file, "killed") >= committed(said)

    writer = sqlite_writer(file, mode, "without", 10**6)
    said = [writer.stdout.readline() for _ in range(30)]
    place.here.kill("mount", signal.SIGKILL)
    said += last_words(writer)
    assert writer.wait(60) != 0
    poll(lambda: can_open(file), 20, "the mount")
    assert rows(file, "without") >= committed(said) - (mode == "DELETE")
    last = sqlite_writer(file, mode, "after", 5)
    assert len(last_words(last)) == 6 and last.wait(60) == 0
    place.agree()
    assert rows(place.there.mountpoint / place.name / "x.db", "a") == 40


def sqlite_writer(file: Path, mode: str, name: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(SUPPORT / "sqlite_writer.py"), str(file), mode, name, str(count)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return writer


def last_words(writer: "subprocess.Popen[str]") -> list[str]:
    assert writer.stdout is not None
    with writer.stdout:
        return writer.stdout.read().splitlines()


def committed(said: list[str]) -> int:
    """How many transactions it has seen in: the last line may be cut."""
    return len([line for line in said if line.strip().isdigit()])


def can_open(file: Path) -> bool:
    try:
        file.open("rb").close()
    except OSError:
        return False
    return True


def rows(file: Path, name: str) -> int:
    """How many rows of this writer are there; they are the first ones, without a gap, and the database is whole."""
    db = sqlite3.connect(file, timeout=60)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        numbers = [n for (n,) in db.execute("SELECT n FROM t WHERE name = ? ORDER BY n", (name,))]
        assert numbers == list(range(len(numbers)))
        return len(numbers)
    finally:
        db.close()


@pytest.fixture
def open_place() -> Iterator[Place]:
    """A place that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="tcfs-tools-") as name:
        base = Path(name)
        base.chmod(0o711)
        with fleet(base, "yoga", "bates") as (yoga, bates):
            yield Place(yoga, bates, "place")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it as another user")
def test_postgresql(open_place: Place) -> None:
    """As a user of its own, also killed in the middle. Stopped, it travels."""
    need("postgresql", "postgresql-contrib")
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    owner = pwd.getpwnam("postgres")
    data, sockets = open_place.path / "data", open_place.here.home.parent / "sockets"
    for folder in (data, sockets):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    def pg(script: str) -> str:
        environ = {"PATH": f"{programs}:{os.environ['PATH']}", "PGHOST": str(sockets), "PGDATA": str(data)}
        command = ["runuser", "-u", "postgres", "--", "bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd="/", env=environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{script}: {done.stderr[-2000:]}"
        return done.stdout

    start = f"pg_ctl -w -l {sockets}/log -o '-k {sockets} -c listen_addresses=' start > {sockets}/out"
    pg(f"initdb -N -k -A trust --no-instructions; {start}; createdb x; pgbench -i -q -s 1 x")
    try:
        pg("pgbench -n -c 4 -j 2 -t 100 x")
        server = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(server, signal.SIGKILL)
        poll(lambda: not Path(f"/proc/{server}").exists(), 10, "its end")
        poll(lambda: not any(works_in(process, data) for process in Path("/proc").glob("[0-9]*")), 10, "all of it")
        pg(f"{start}; pgbench -n -c 4 -j 2 -t 50 x")
        same = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
        assert pg(f"psql -Atc '{same}' x") == "t\n"
        assert int(pg("psql -Atc 'SELECT count(*) FROM pgbench_history' x")) >= 600
        pg("vacuumdb -q -z x; pg_amcheck --install-missing x")
    finally:
        pg("pg_ctl -w stop -m fast")
    pg("pg_checksums -c")
    assert "data/global/pg_control" in open_place.agree()


def works_in(process: Path, folder: Path) -> bool:
    try:
        return os.readlink(process / "cwd") == str(folder)
    except OSError:
        return False


# ---- packages


def test_pip_install(place: Place, tmp_path: Path) -> None:
    """Into an environment on the mount; what was installed runs, and is seen to be whole, also on the other machine."""
    wheel = tmp_path / "hello_tcfs-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for n in range(40):
            made.writestr(f"hello_tcfs/m{n}.py", f"VALUE = {n}\n")
        made.writestr("hello_tcfs/__init__.py", "def main():\n    from hello_tcfs.m7 import VALUE\n    print(VALUE)\n")
        made.writestr("hello_tcfs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hello-tcfs\nVersion: 1.0\n")
        made.writestr(
            "hello_tcfs-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr("hello_tcfs-1.0.dist-info/entry_points.txt", "[console_scripts]\nhello = hello_tcfs:main\n")
        made.writestr("hello_tcfs-1.0.dist-info/RECORD", "")
    pip = f"{sys.executable} -m pip --python env/bin/python --no-cache-dir --disable-pip-version-check"
    place.sh(
        f"""
        {sys.executable} -m venv --without-pip env
        {pip} install -q --no-index --no-deps {wheel}
        test "$(env/bin/hello)" = 7; {pip} check
        """
    )
    place.agree()
    there = place.there.mountpoint / place.name
    assert sh("env/bin/python -c 'import hello_tcfs; hello_tcfs.main()'", there) == "7\n"
    place.sh(f"{pip} uninstall -qy hello-tcfs; ! env/bin/python -c 'import hello_tcfs' 2> /dev/null")
    assert not (place.path / "env/bin/hello").exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_whole_environment(place: Place) -> None:
    """venv with its own pip, as people make it: 1,500 files."""
    need("python3-venv")
    place.sh(
        "/usr/bin/python3 -m venv env; env/bin/python -m pip check; env/bin/python -m compileall -qf env/lib",
        timeout=300,
    )
    assert len(place.agree()) > 500


@pytest.mark.long
@pytest.mark.timeout(600)
def test_npm_ci(place: Place, tmp_path: Path) -> None:
    """From packages on this disk: no registry is asked."""
    need("nodejs", "npm", program="npm")
    packages = []
    for n in range(15):
        source = tmp_path / f"p{n}"
        (source / "lib").mkdir(parents=True)
        (source / "package.json").write_text(
            json.dumps({"name": f"p{n}", "version": "1.0.0", "bin": {f"p{n}": "run.js"}})
        )
        (source / "run.js").write_text(f"#!/usr/bin/env node\nconsole.log({n})\n")
        for m in range(20):
            (source / "lib" / f"{m}.js").write_text(f"module.exports = {m}\n")
        packages.append(sh(f"npm pack --silent --pack-destination {tmp_path}", source, HOME=str(tmp_path)).strip())
    project = place.path / "project"
    project.mkdir()
    for name in packages:
        shutil.copy(tmp_path / name, project / name)
    wanted = {name.split("-")[0]: f"file:{name}" for name in packages}
    (project / "package.json").write_text(json.dumps({"name": "x", "version": "1.0.0", "dependencies": wanted}))
    home = {"HOME": str(tmp_path)}
    sh("npm install --package-lock-only --offline --no-audit --no-fund", project, **home)
    for _ in range(2):  # the second time it removes everything first
        sh('npm ci --offline --no-audit --no-fund; test "$(npx --no-install p7)" = 7', project, timeout=300, **home)
    assert "project/node_modules/p3/lib/19.js" in place.agree()
    assert sh("node_modules/.bin/p3", place.there.mountpoint / place.name / "project") == "3\n"
