"""The folder that datagen works in, and who may work in it at once.

Either one run has a data folder to itself, or the tasks of one job (`--task_id`,
`--num_tasks`) share it, on as many machines as there are tasks. Imports no TensorFlow.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from t2t_mm.files import write_atomically
from t2t_mm.locks import Lock

_WHOLE = ".datagen.lock"
_FOLDER = ".generating"
_START_SECONDS = 10.0


@dataclass(frozen=True)
class Task:
    """A share of the work on shards.

    Args:
      number: of this task, from 0.
      of: how many tasks there are.

    Raises:
      ValueError: if there is no such task.
    """

    number: int = 0
    of: int = 1

    def __post_init__(self):
        if not 0 <= self.number < self.of:
            raise ValueError(
                f"--task_id={self.number} came with --num_tasks={self.of}; a number "
                f"from 0 to {max(0, self.of - 1)} was expected. Correct them."
            )

    @property
    def is_whole(self) -> bool:
        """Whether this is all of the work."""
        return self.of == 1

    def rotated(self, things: list) -> list:
        """Gives things in an order in which each task begins elsewhere."""
        begin = self.number * len(things) // self.of
        return things[begin:] + things[:begin]


def check_folders(**paths: str) -> None:
    """Makes folders, unless they are there; all of them or none.

    Args:
      **paths: by the flag that names each.

    Raises:
      OSError: if one cannot be written to; what was made is removed again.
    """
    made: list[str] = []
    for flag, path in paths.items():
        probe = os.path.join(path, f".writable-{os.getpid()}")
        made += _missing_folders(path)
        try:
            os.makedirs(path, exist_ok=True)
            write_atomically(probe, b"")
            os.remove(probe)
        except OSError as error:
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            raise OSError(
                f"--{flag}={path} cannot be written ({error.strerror}); a folder was "
                "expected that you may write to and that has room. Choose another."
            ) from error


def _missing_folders(path: str) -> list[str]:
    """Gives the folders of a path that are not there, the outermost first."""
    missing: list[str] = []
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        missing.insert(0, path)
        path = os.path.dirname(path)
    return missing


@contextlib.contextmanager
def work_folder(data_dir: str, task: Task, job: str) -> Iterator[str]:
    """Gives the folder for raw examples: empty, or what tasks of this job made so far.

    Args:
      data_dir: where it lies.
      task: which share of the work is done here.
      job: a word that tells this job from others with as many tasks.

    Raises:
      OSError: if somebody else is at work in `data_dir`.
    """
    whole = Lock(os.path.join(data_dir, _WHOLE))
    # Tasks that start together have it one after the other, for a moment each.
    deadline = time.monotonic() + (0 if task.is_whole else _START_SECONDS)
    while not whole.take():
        if time.monotonic() >= deadline:
            raise _busy(data_dir, "Another mm-datagen is")
        time.sleep(0.05)
    with whole:
        if task.is_whole:
            with _alone(data_dir) as folder:
                yield folder
            return
        share = Lock(
            os.path.join(data_dir, f".datagen-{task.number}-of-{task.of}.lock")
        )
        if not share.take():
            raise _busy(data_dir, f"Task {task.number} of {task.of} is already")
        # Other tasks of the job may come; a run of the whole finds this task's lock.
        whole.release()
    with share:
        folder = os.path.join(data_dir, f"{_FOLDER}-{job}-{task.of}")
        os.makedirs(folder, exist_ok=True)
        yield folder


@contextlib.contextmanager
def _alone(data_dir: str) -> Iterator[str]:
    names = os.listdir(data_dir)
    for name in names:
        if re.fullmatch(r"\.datagen-\d+-of-\d+\.lock", name):
            path = os.path.join(data_dir, name)
            with Lock(path) as share:
                if not share.take():
                    raise _busy(data_dir, f"A task ({name}) is")
            os.remove(path)
    for name in names:
        if name.startswith(".") and name.endswith(".partial"):
            os.remove(os.path.join(data_dir, name))
        elif name.startswith(_FOLDER):
            shutil.rmtree(os.path.join(data_dir, name), ignore_errors=True)
    folder = os.path.join(data_dir, _FOLDER)
    os.makedirs(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _busy(data_dir: str, who: str) -> OSError:
    return OSError(
        f"{who} at work in {data_dir}; one at a time was expected. Wait for it, or "
        "choose another --data_dir."
    )
