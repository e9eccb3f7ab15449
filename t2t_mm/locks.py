"""Locks between processes, on POSIX systems and on Windows.

Used by datagen (one run at a time in a folder), by the trainer (likewise) and by
downloads (which folders of killed runs may go). The system lets go of a lock when its
process dies, however it dies. On a network drive, a lock holds as far as the drive's
server keeps it.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from typing import IO

if os.name == "posix":
    import fcntl
else:
    import msvcrt


_LOG = logging.getLogger(__name__)
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)


class NoLocksError(OSError):
    """A file cannot be locked, by nobody: its drive keeps no locks."""


class Lock:
    """A lock on a file, which nobody else may hold.

    Args:
      path: the file; made if it is not there, and left there.

    Example:
      >>> import tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "lock")
      >>> with Lock(path) as first:
      ...     first.take(), Lock(path).take()
      (True, False)
    """

    def __init__(self, path: str):
        self._path = path
        self._file: IO | None = None

    def take(self) -> bool:
        """Takes the lock unless somebody has it; says whether it is ours now.

        Raises:
          OSError: if the file cannot be made.
          NoLocksError: if there are no locks where it is.
        """
        file = open(self._path, "a+b")
        try:
            _lock(file)
        except OSError as error:
            file.close()
            if error.errno in _HELD:
                return False
            raise NoLocksError(
                f"{self._path} cannot be locked ({error.strerror}); expected a drive "
                "that keeps locks. Choose a folder on another."
            ) from error
        self._file = file
        return True

    def release(self) -> None:
        """Lets go of the lock, if it is ours."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exception):
        self.release()


@contextlib.contextmanager
def alone(path: str, refusal: str) -> Iterator[None]:
    """Holds a lock on a file, or refuses; warns where the drive keeps no locks.

    Raises:
      OSError: if somebody else has it: with the words of `refusal`.
    """
    with Lock(path) as lock:
        try:
            is_ours = lock.take()
        except NoLocksError as error:
            _LOG.warning("%s Going on; see that nobody else works there.", error)
            is_ours = True
        if not is_ours:
            raise OSError(refusal)
        yield


if os.name == "posix":

    def _lock(file: IO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

else:

    def _lock(file: IO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
