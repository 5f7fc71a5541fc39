import os
import subprocess
import sys

import pytest

from sync.machines.processor import ThreadTimes, thread_times, without_processor

S = 10**9


def times(ran_s, waited_s, *, runnable=True):
    return ThreadTimes(int(ran_s * S), int(waited_s * S), runnable)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (times(5, 2, runnable=False), times(5, 2, runnable=False), 0.0),  # stuck in the kernel, or stopped
        (times(5, 2), times(6, 2), 0.0),  # in an endless loop, and nobody else is there
        (times(5, 2), times(5.4, 2.6), 0.6),  # in an endless loop on a machine that others use
        (times(5, 2), times(5, 2), 1.0),  # has waited all the time, and does yet
        (times(5, 2), times(5.1, 9), 1.0),  # had waited for long before
        (times(0, 0), times(0, 0), 0.0),  # the kernel does not tell
    ],
)
def test_what_a_thread_waited_for_a_processor(before, after, expected):
    assert without_processor({"1": before}, {"1": after}, 1.0) == pytest.approx(expected)


def test_the_thread_that_waited_longest_counts():
    idle = times(1, 0, runnable=False)
    before = {"1": idle, "2": times(1, 1), "3": times(1, 1)}
    after = {"1": idle, "2": times(1.3, 1.7), "4": times(0, 9)}
    assert without_processor(before, after, 1.0) == pytest.approx(0.7)
    assert without_processor({}, after, 1.0) == without_processor(before, {}, 1.0) == 0.0


def test_a_process_that_is_not_there():
    assert thread_times(2**22 + 1) == {}


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="this kernel does not tell")
def test_of_processes_that_share_one_processor_each_waits():
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); print(flush=True)\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for process in busy:
            process.stdout.readline()
        before = thread_times(busy[0].pid)
        with pytest.raises(subprocess.TimeoutExpired):
            busy[0].wait(2)
        waited = without_processor(before, thread_times(busy[0].pid), 2.0)
        assert waited > 0.8
    finally:
        for process in busy:
            process.kill()
            process.communicate()
