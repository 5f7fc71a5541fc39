"""What the home of a test's machine leaves outside of it."""

import shutil
from pathlib import Path


def remove_socket_folders(home: Path) -> None:
    """Those below /tmp that hold the sockets of a home with a long path: see FleetPaths.socket_path. Never fails."""
    for pointer in home.glob("run/*/sock"):
        folder = pointer.read_text().strip()
        if folder.startswith("/tmp/tcfs-"):
            shutil.rmtree(folder, ignore_errors=True)


def is_mounted(place: Path) -> bool:
    """True also of a mount whose process has died, which os.path.ismount takes for a plain folder."""
    where = str(place).replace(" ", "\\040")
    return any(line.split()[1] == where for line in Path("/proc/self/mounts").read_text().splitlines())
