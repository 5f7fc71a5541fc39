"""A store on a disk that can be stopped (far_disk.py): whoever asks it for anything waits then."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from fleetkit import poll

FAR_DISK = Path(__file__).parent / "far_disk.py"


class FarStore:
    """The folder `place` shows `real`, until it is stopped."""

    def __init__(self, base: Path) -> None:
        self.real, self.place = base / "real", base / "far"
        self.real.mkdir()
        self.place.mkdir()
        self.process = subprocess.Popen([sys.executable, str(FAR_DISK), str(self.real), str(self.place)])
        poll(lambda: os.path.ismount(self.place), 10, "the far disk")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.kill()  # who still waits for it gets an error
        self.process.wait()
        subprocess.run(["umount", "-l", str(self.place)], capture_output=True)
