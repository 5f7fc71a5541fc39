"""Test suites of others, run on a folder of this disk and on a mount: `scripts/suites [python|libfuse|fio|stress]...`

What fails on the mount only is printed; the exit code is 1 if anything of it is not explained by docs/SEMANTICS.md.
The programs are Debian's, installed by scripts/tools; root is needed for most of what they try.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "integration" / "support"))

from fleetkit import fleet  # noqa: E402

Failures = dict[str, str]  # what has failed -> the words of the program

PYTHON = "test_os test_posix test_io test_mmap test_shutil test_fileio test_file test_tempfile test_glob test_pathlib"
PYTHON += " test_posixpath test_genericpath test_fcntl test_largefile test_stat test_zipfile test_tarfile test_dbm"
PYTHON += " test_mailbox test_shelve test_compileall"
STRESS = "access chdir chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl fiemap file-ioctl filename"
STRESS += (
    " flock fpunch fstat getdent handle hdd io iomix lease link locka lockf lockofd mknod open rename seek sendfile"
)
STRESS += " symlink sync-file utime verity xattr"
SOURCES = (
    "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n"
)
FIO = """[global]
size=24m
verify=crc32c
verify_fatal=1
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
[straight]
stonewall
rw=write
bs=64k
numjobs=2
"""

# What fails on a mount, and why that is so: the names are those of the suites.
EXPLAINED = {
    "names that are not UTF-8 are refused (EILSEQ)": r"test_os\..*Pep383Tests|test_nonascii_abspath",
}


def run(command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **options)  # type: ignore[call-overload, no-any-return]


def install(*packages: str) -> None:
    subprocess.run([str(ROOT / "scripts" / "tools"), *packages], check=True)


def python(folder: Path) -> Failures:
    """CPython's own tests of files."""
    install("libpython3.11-testsuite")
    command = ["/usr/bin/python3.11", "-m", "test", "-W", "--tempdir", str(folder), *PYTHON.split()]
    done = run(command, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}, timeout=3600)
    text = done.stdout + done.stderr
    found = {f"{match[2]}": match[1] for match in re.finditer(r"^(ERROR|FAIL): \S+ \((\S+)\)", text, re.MULTILINE)}
    return found or ({} if done.returncode == 0 else {"the run": text[-500:]})


def libfuse(folder: Path) -> Failures:
    """test_syscalls of libfuse's sources."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "sources").write_text(SOURCES)
        for below in ("lists/partial", "cache/archives/partial"):
            (place / below).mkdir(parents=True)
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={place}/sources", "-o", "Dir::Etc::sourceparts=/dev/null"]
        apt += ["-o", f"Dir::State::lists={place}/lists", "-o", f"Dir::Cache={place}/cache"]
        for step in ([*apt, "update"], [*apt, "source", "--download-only", "fuse3"]):
            subprocess.run(step, cwd=place, check=True, capture_output=True)
        (archive,) = place.glob("fuse3_*.orig.tar.xz")
        subprocess.run(["tar", "-xf", str(archive)], cwd=place, check=True)
        (source,) = place.glob("fuse-*/test/test_syscalls.c")
        (place / "fuse_config.h").write_text("")
        program = place / "test_syscalls"
        build = ["gcc", "-w", "-D_GNU_SOURCE", "-DHAVE_COPY_FILE_RANGE", f"-I{place}", "-o", str(program), str(source)]
        subprocess.run(build, check=True)
        done = run([str(program), str(folder)], timeout=600)
    text = done.stdout + done.stderr
    found = {match[1]: match[2] for match in re.finditer(r"^ *\d+ \[([^]]+)\] (\S+\(\) - .*)$", text, re.MULTILINE)}
    return found or ({} if done.returncode == 0 else {"the run": text[-500:]})


def fio(folder: Path) -> Failures:
    """What was written is read back: random and unaligned, direct, through a map, straight on."""
    install("fio")
    (folder / "jobs.fio").write_text(FIO)
    done = run(["fio", f"--directory={folder}", str(folder / "jobs.fio")], timeout=1800)
    return {} if done.returncode == 0 else {"verify": done.stdout[-1000:] + done.stderr[-1000:]}


def stress(folder: Path) -> Failures:
    """stress-ng's stressors of files, one after the other, each with its own checks."""
    install("stress-ng")
    found = {}
    for name in STRESS.split():
        command = ["stress-ng", f"--{name}", "1", f"--{name}-ops", "60", "-t", "3", "--verify", "-q"]
        done = run([*command, "--temp-path", str(folder)], timeout=120)
        if done.returncode:
            found[name] = f"exit {done.returncode}: {(done.stdout + done.stderr)[:200]}"
    return found


SUITES: dict[str, Callable[[Path], Failures]] = {"python": python, "libfuse": libfuse, "fio": fio, "stress": stress}


def why(name: str) -> str:
    return next((reason for reason, pattern in EXPLAINED.items() if re.search(pattern, name)), "")


def main(names: list[str]) -> int:
    unexplained = 0
    with tempfile.TemporaryDirectory(prefix="tcfs-suites-") as base:
        Path(base).chmod(0o711)
        plain = Path(base) / "plain"
        with fleet(Path(base), "yoga") as (yoga,):
            for name in names or SUITES:
                found = []
                for folder in (plain / name, yoga.mountpoint / name):
                    folder.mkdir(parents=True)
                    found.append(SUITES[name](folder))
                here, there = found
                print(f"{name}: {len(here)} fail on the disk, {len(there)} on the mount")
                for what in sorted(there.keys() - here.keys()):
                    reason = why(what)
                    unexplained += not reason
                    print(f"    {what}: {reason or f'NOT EXPLAINED: {there[what]}'}", flush=True)
            yoga.run("wait", "--timeout", "100")
            yoga.fsck()
    return 1 if unexplained else 0


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - SUITES.keys()
    if unknown:
        sys.exit(f"there is no suite {' '.join(sorted(unknown))}; there are {' '.join(SUITES)}")
    sys.exit(main(sys.argv[1:]))
