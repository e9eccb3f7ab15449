"""Which checkpoints a run's folders hold, and which one a path means.

`checkpoints` reads and writes them. A folder's index, written last, says which ones are
finished.
"""

import os
import re

import tensorflow as tf

from t2t_mm.run_history import RUN_FILE

CHECKPOINT_DIR = "checkpoints"
BEST_DIR = "best"


def newest_checkpoint(run_dir: str) -> str | None:
    """Gives the path prefix of a run's newest checkpoint, or None."""
    paths = finished_in(os.path.join(run_dir, CHECKPOINT_DIR))
    return paths[max(paths)] if paths else None


def checkpoints_of(run_dir: str) -> dict[int, str]:
    """Gives the checkpoints that a run keeps: path prefix by step, without the best."""
    return finished_in(os.path.join(run_dir, CHECKPOINT_DIR))


def located(path: str) -> tuple[str, str | None]:
    """Tells which run a path means, and which checkpoint, if it names one.

    Args:
      path: a run's folder; its folder `checkpoints` or `best`; or a checkpoint in one,
        "run/checkpoints/ckpt-5000", also with the ending of one of its files.

    Returns:
      (the run's folder, the checkpoint's prefix or None).

    Raises:
      FileNotFoundError: if there is nothing at the path.
      ValueError: if a folder of checkpoints has none.
    """
    path = path.rstrip(os.sep)
    if os.path.isdir(path):
        run_dir, name = os.path.split(path)
        if name not in (CHECKPOINT_DIR, BEST_DIR) or _is_run(path):
            return path, None
        found = finished_in(path)
        if not found:
            raise ValueError(
                f"{path} has no checkpoint; expected one as mm-trainer writes it. "
                "Name another folder, or train first."
            )
        return run_dir, found[max(found)]
    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path)
    if not os.path.exists(f"{prefix}.index"):
        raise FileNotFoundError(
            f"{path} is neither a folder nor a checkpoint; expected the --output_dir "
            "of mm-trainer, or a checkpoint in it such as run/checkpoints/ckpt-5000. "
            "Check the path."
        )
    folder = os.path.dirname(prefix)
    return (folder if _is_run(folder) else os.path.dirname(folder)), prefix


def _is_run(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, RUN_FILE))


def finished_in(folder: str) -> dict[int, str]:
    """Gives the finished checkpoints of a folder: path prefix by step.

    One of which only some files are left is among them, and is found broken when it is
    restored; one that was removed whole is not.
    """
    if not os.path.isdir(folder):
        return {}
    files = os.listdir(folder)
    known = _listed_in(folder)
    if known is None:  # the index is lost, or the folder was copied in part
        names = [name for name in files if name.endswith(".index")]
        known = [name.removesuffix(".index") for name in names]
    return {
        int(name.rpartition("-")[2]): os.path.join(folder, name)
        for name in known
        if any(file.startswith((f"{name}.index", f"{name}.data-")) for file in files)
    }


def _listed_in(folder: str) -> list[str] | None:
    """Gives the names that a folder's index lists; None without an index."""
    state = tf.train.get_checkpoint_state(folder)
    if state is None:
        return None
    return [os.path.basename(path) for path in state.all_model_checkpoint_paths]


def check_nothing_lost(folder: str) -> None:
    """Refuses to begin anew where checkpoints were."""
    lost = _listed_in(folder)
    if lost:
        raise FileNotFoundError(
            f"{folder} lists {', '.join(lost)} and holds none of them; expected one to "
            "go on from. Put one back; or remove the folder to train from step 0, or "
            "use another --output_dir."
        )
