"""POSIX ACLs with the tools that people use, on the mount as on ext4; one umask apart (see differences.py)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mountkit import HAS_FUSE, Fleet, fleet

pytestmark = [
    pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened"),
    pytest.mark.skipif(os.geteuid() != 0, reason="other users are needed: run it as root"),
    pytest.mark.skipif(
        shutil.which("setfacl") is None or shutil.which("setfattr") is None,
        reason="setfacl or setfattr is not installed (packages acl, attr)",
    ),
]

SCRIPT = """
umask 0
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
show() { stat -c '%A %a %n' "$@"; getfacl -cp "$@"; }
echo x > f; chmod 640 f; setfacl -m u:65534:rw f; show f
chmod 600 f; show f
chmod 4664 f; show f
setfacl -x u:65534 f; show f
setfacl -b f; show f
mkdir d; setfacl -d -m u:65534:rwx,g:65533:rx d; show d
touch d/g; (umask 077; touch d/private); mkdir d/s; touch d/s/t; ln -s g d/l; show d/g d/s d/s/t
echo secret > h; chmod 600 h; as 65534 cat h
setfacl -m u:65534:r h; as 65534 cat h; as 65534 sh -c 'echo y >> h'; as 65533 cat h
setfacl -m m::- h; as 65534 cat h
setfacl -m m::rw h; cp -a h h2; mv h2 d/; show d/h2; rm -f d/private; cp -a d e
find e | LC_ALL=C sort | xargs getfacl -cp
ls -l d | sed 1d | cut -c1-11
setfacl -k d; show d
setfacl -b -R e; find e | LC_ALL=C sort | xargs getfacl -cp
setfacl -d -m u:1:r h; as 65534 setfacl -m u:65534:rw h; as 65534 setfacl -b h
getfattr -d -m - -e hex h
chown 65534 h; as 65534 setfacl -m u:65533:rw h; as 65533 sh -c 'echo z >> h'; cat h
rm h; touch h; show h
setfattr -x system.posix_acl_access h; setfattr -x system.posix_acl_default h
chown 65534:65533 h; chmod 2755 h; setfacl -m o::- h; stat -c %a h
as 65534 setfacl -m o::r h; stat -c %a h
chmod 2755 h; setpriv --reuid 65534 --regid 65534 --groups 65533 setfacl -m o::- h; stat -c %a h
as 65534 setfacl -m u:1:r h; stat -c %a h
"""


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def said(folder: Path, script: str) -> list[str]:
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return [*done.stdout.splitlines(), *sorted(done.stderr.splitlines())]


@pytest.mark.parametrize("cached", ["0", "1"])
def test_as_on_ext4(yoga: Fleet, tmp_path: Path, cached: str) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    root = yoga.mount(TCFS_NO_KERNEL_CACHE=cached)
    expected = said(plain, SCRIPT)
    if not any("user:nobody" in line or "user:65534" in line for line in expected):
        pytest.skip("the disk itself has no ACLs")
    assert said(root, SCRIPT) == expected


def test_they_are_there_after_a_restart(yoga: Fleet) -> None:
    root = yoga.mount()
    said(
        root, "echo x > f; setfacl -m u:65534:rw f; mkdir d; setfacl -d -m u:65534:rwx d; setfattr -n trusted.a -v 1 f"
    )
    before = said(root, "getfacl -cp f d; getfattr -d -m - f; stat -c %a f d")
    assert any("trusted.a" in line for line in before) and any("default:user:" in line for line in before)
    yoga.kill()
    yoga.mount()
    assert said(root, "getfacl -cp f d; getfattr -d -m - f; stat -c %a f d") == before
