"""CPython's tests of files, libfuse's test_syscalls, and programs that load a file system and check what they read."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit import Outcome, Side, chosen, debian_source, install, run

PYTHON = "test_os test_posix test_io test_mmap test_shutil test_fileio test_file test_tempfile test_glob test_pathlib"
PYTHON += " test_posixpath test_genericpath test_fcntl test_largefile test_stat test_zipfile test_tarfile test_dbm"
PYTHON += " test_mailbox test_shelve test_compileall test_bufio test_fileinput test_filecmp test_fnmatch test_linecache"
PYTHON += (
    " test_sqlite3 test_zipimport test_importlib test_venv test_gzip test_bz2 test_lzma test_netrc test_unicode_file"
)
PYTHON += " test_unicode_file_functions test_univnewlines test_winapi test_py_compile test_dbm_gnu test_dbm_ndbm"
STRESS = (
    "access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fanotify fcntl fiemap"
)
STRESS += (
    " file-ioctl filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix lease link locka"
)
STRESS += " lockf lockofd mknod open rename seek sendfile symlink sync-file touch utime verity xattr"
# These are not in its class of file systems, and work with files all the same.
STRESS += " aio aiol fault fifo msync mmap readahead revio splice"
STRESS_MORE = {"mmap": ["--mmap-file"]}
FIO = """[global]
size=24m
verify=crc32c
verify_fatal=1
verify_state_save=0
fallocate=none
[random]
rw=randwrite
bsrange=512-64k
bs_unaligned=1
nrfiles=4
[direct]
stonewall
rw=randwrite
bs=4k
direct=1
[mapped]
stonewall
ioengine=mmap
rw=randwrite
bs=4k
fsync=256
[asynchronous]
stonewall
ioengine=libaio
iodepth=16
rw=randrw
bs=8k
direct=1
[straight]
stonewall
rw=write
bs=64k
numjobs=2
"""
DBENCH = {"plain": [], "attributes": ["-x"], "synced": ["-s", "-S"], "fsync": ["-F"]}


@contextmanager
def python(parts: list[str]) -> Iterator[Side]:
    """CPython's own tests of files; a part is a module."""
    install("libpython3.11-testsuite")
    modules = chosen(PYTHON.split(), parts)

    def side(folder: Path) -> Outcome:
        command = ["/usr/bin/python3.11", "-m", "test", "-v", "--tempdir", str(folder), *modules]
        environ = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
        done = run(command, env=environ, cwd=folder, timeout=3600)
        found = re.findall(r"^(?:ERROR|FAIL): (\S+ \(\S+\))", done.text, re.MULTILINE)
        failed = dict.fromkeys(found, "fails")
        if done.code and not failed:
            failed["as a whole"] = f"exit {done.code}: {done.text[-500:]}"
        return Outcome({"all": sum(map(int, re.findall(r"^Ran (\d+) test", done.text, re.MULTILINE)))}, failed)

    yield side


@contextmanager
def libfuse(_parts: list[str]) -> Iterator[Side]:
    """test_syscalls of libfuse's sources."""
    with debian_source("fuse3") as source, tempfile.TemporaryDirectory(prefix="tcfs-libfuse-") as name:
        (Path(name) / "fuse_config.h").write_text("")
        program = str(Path(name) / "test_syscalls")
        build = ["gcc", "-w", "-D_GNU_SOURCE", "-DHAVE_COPY_FILE_RANGE", f"-I{name}", "-o", program]
        subprocess.run([*build, str(source / "test" / "test_syscalls.c")], check=True)

        def side(folder: Path) -> Outcome:
            done = run([program, str(folder)], timeout=600)
            results = re.findall(r"^ *\d+ \[([^]]+)\] (OK|\S+\(\) - .*)$", done.text, re.MULTILINE)
            failed = {what: words for what, words in results if words != "OK"}
            if done.code and not failed:
                failed["as a whole"] = f"exit {done.code}: {done.text[-500:]}"
            return Outcome({"all": len(results)}, failed)

        yield side


@contextmanager
def fio(_parts: list[str]) -> Iterator[Side]:
    """What was written is read back: random and unaligned, direct, through a map, asynchronous, straight on."""
    install("fio")

    def side(folder: Path) -> Outcome:
        (folder / "jobs.fio").write_text(FIO)
        done = run(["fio", f"--directory={folder}", str(folder / "jobs.fio")], timeout=1800, cwd=folder)
        jobs = FIO.count("[") - 1
        return Outcome({"jobs": jobs}, {} if done.code == 0 else {"verify": f"exit {done.code}: {done.text[-1000:]}"})

    yield side


@contextmanager
def stress(parts: list[str]) -> Iterator[Side]:
    """stress-ng's stressors of files, one after the other, each with its own checks; a part is a stressor."""
    install("stress-ng")

    def side(folder: Path) -> Outcome:
        names, failed = chosen(STRESS.split(), parts), {}
        for name in names:
            command = ["stress-ng", f"--{name}", "1", f"--{name}-ops", "60", "-t", "5", "--verify", "--temp-path"]
            done = run([*command, str(folder), *STRESS_MORE.get(name, [])], timeout=120, cwd=folder)
            if done.code or re.search(r"fail:|skipping stressor", done.text):
                failed[name] = f"exit {done.code}: {' '.join(done.text[-500:].split())}"
        return Outcome(dict.fromkeys(names, 1), failed)

    yield side


@contextmanager
def dbench(parts: list[str]) -> Iterator[Side]:
    """The load of an office's file server, by four clients; a part is a way of writing."""
    install("dbench")

    def side(folder: Path) -> Outcome:
        ways, failed = chosen(DBENCH, parts), {}
        for way in ways:
            place = folder / way
            place.mkdir()
            done = run(["dbench", "-t", "15", "-D", str(place), *DBENCH[way], "4"], timeout=300, cwd=folder)
            wrong = re.findall(r"^.*(?:failed|ERROR|not found|expected).*$", done.text, re.MULTILINE)
            if done.code or wrong or "Throughput" not in done.text:
                failed[way] = f"exit {done.code}: {'; '.join(wrong[:5]) or done.text[-500:]}"
        return Outcome(dict.fromkeys(ways, 1), failed)

    yield side
