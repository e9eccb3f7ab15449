"""Locks between processes."""

import errno
import os
import pathlib
import subprocess
import sys
import types

import pytest

from t2t_mm import locks

HOLD = """
import sys
from t2t_mm.locks import Lock
lock = Lock(sys.argv[1])
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_only_one_may_have_it(tmp_path):
    path = str(tmp_path / "lock")
    with locks.Lock(path) as first:
        assert first.take()
        assert not locks.Lock(path).take()
    second = locks.Lock(path)
    assert second.take()
    second.release()
    second.release()


def test_a_killed_process_lets_go(tmp_path):
    path = str(tmp_path / "lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout.readline() == "True\n"
        assert not locks.Lock(path).take()
        holder.kill()
        holder.wait()
    with locks.Lock(path) as lock:
        assert lock.take()


def test_whoever_wants_to_be_alone_is_refused_in_the_words_given(tmp_path):
    path = str(tmp_path / "lock")
    with locks.alone(path, "Another one."):
        with pytest.raises(OSError, match="^Another one.$"):
            with locks.alone(path, "Another one."):
                pytest.fail("two at once")
    with locks.alone(path, "Another one."):
        pass


def test_a_drive_without_locks_is_no_reason_to_stop(tmp_path, monkeypatch, caplog):
    def no_locks(_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(locks, "_lock", no_locks)
    path = str(tmp_path / "lock")
    with pytest.raises(locks.NoLocksError, match="cannot be locked .Function not impl"):
        locks.Lock(path).take()
    with locks.alone(path, "Another one."):
        pass
    assert "Going on; see that nobody else works there." in caplog.text


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        locks.Lock(str(tmp_path / "no" / "lock")).take()


def test_windows_locks_one_byte_and_hears_no(tmp_path, monkeypatch):
    """The branch for Windows, run with a stand-in of its one system call."""
    source = (tmp_path / "locks_windows.py").resolve()
    text = pathlib.Path(locks.__file__).read_text("utf-8")
    source.write_text(text.replace('os.name == "posix"', "False"), encoding="utf-8")
    held = set()

    def locking(descriptor, mode, size):
        place = os.fstat(descriptor).st_ino
        if mode != 2 or size != 1 or place in held:
            raise PermissionError(13, "held")
        held.add(place)

    stand_in = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
    monkeypatch.setitem(sys.modules, "msvcrt", stand_in)
    monkeypatch.syspath_prepend(str(tmp_path))
    import locks_windows

    path = str(tmp_path / "lock")
    with locks_windows.Lock(path) as first:
        assert first.take()
        assert not locks_windows.Lock(path).take()
