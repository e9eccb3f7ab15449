"""Files that are either whole or not there.

Everything the engine writes goes through here: written under another name in the same
folder, flushed to disk, then renamed. A kill or a full disk never leaves half a file
under a final name.
"""

import contextlib
import hashlib
import io
import os
import uuid
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def written_aside(path: str) -> Iterator[str]:
    """Gives a temporary path to write to; renames it to `path` on a clean exit.

    Args:
      path: the final name; its folder is made if it is not there.

    Raises:
      OSError: as the file system does; then nothing stands under `path` that did
        not stand there before, and the temporary file is gone.
    """
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    name = os.path.basename(path)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def write_atomically(path: str, content: bytes) -> None:
    """Writes a whole file or nothing.

    Raises:
      OSError: as the file system does.
    """
    with written_aside(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def check_lines(path: str, flag: str) -> None:
    """Checks that a flag names a file, one of lines.

    Raises:
      FileNotFoundError: if it does not.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{flag}={path} is not a file; expected one with a line for each example. "
            "Check the path."
        )


def check_place(path: str, flag: str, *, is_folder: bool = False) -> None:
    """Checks, before the work begins, that its result can be put where a flag says.

    Args:
      path: of the result; folders above it may be missing.
      flag: that named it, for the message.
      is_folder: whether the result is a folder; it may be there.

    Raises:
      OSError: if it cannot.
    """
    if os.path.exists(path) and os.path.isdir(path) != is_folder:
        kinds = ("file", "folder") if is_folder else ("folder", "file")
        raise FileExistsError(
            f"{flag}={path} is a {kinds[0]}; expected a place for a {kinds[1]}. Choose "
            "another."
        )
    above = (
        os.path.abspath(path) if is_folder else os.path.dirname(os.path.abspath(path))
    )
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise NotADirectoryError(
            f"{flag}={path} cannot be: {above} is no folder; expected a place in one. "
            "Choose another."
        )
    if not os.access(above, os.W_OK):
        raise PermissionError(
            f"{flag}={path} cannot be: you may not write into {above}; expected a "
            "place where you may. Choose another."
        )


def write_array(path: str, array: np.ndarray) -> None:
    """Writes a numpy file, whole or not at all."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue())


def sha256_of(path: str) -> str:
    """Gives the hex sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
