import os

from sync.state.lock import FileLock, is_held


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "engine.lock"
    assert not is_held(path)
    first, second = FileLock(path), FileLock(path)
    assert first.try_acquire()
    assert is_held(path)
    assert not second.try_acquire()
    first.release()
    assert not is_held(path)
    with second:
        assert second.try_acquire()
        assert path.read_text() == f"{os.getpid()}\n"
    assert not is_held(path)


def test_asking_does_not_take_it_away(tmp_path):
    path = tmp_path / "engine.lock"
    with FileLock(path) as lock:
        assert lock.try_acquire()
        assert is_held(path)
        assert is_held(path)
        assert not FileLock(path).try_acquire()
