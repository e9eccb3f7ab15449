"""Saving and restoring runs: `<run>/checkpoints/ckpt-<step>` and `<run>/best`.

The trainer saves a `TrainingState`; inference restores the model's part of it. A
checkpoint is written aside and renamed by TensorFlow, then entered in the folder's
index, so that a kill at any moment leaves the ones before it whole.
"""

import os
import re
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

import tensorflow as tf

from t2t_mm.training_state import MODEL, TrainingState, flat_map

if TYPE_CHECKING:
    import keras

CHECKPOINT_DIR = "checkpoints"
BEST_DIR = "best"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_OWN_KEYS = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")


class Checkpoints:
    """The checkpoints of one run: the newest few, and the best.

    Args:
      run_dir: the run's output directory.
      state: what is saved.
      keep: how many of the newest are kept.

    Raises:
      ValueError: if keep is below 1.
    """

    def __init__(self, run_dir: str, state: TrainingState, *, keep: int = 3):
        if keep < 1:
            raise ValueError(
                f"keep_checkpoint_max is {keep}; expected 1 or more, or the run could "
                "not go on. Set --keep_checkpoint_max=1 to keep the newest only."
            )
        self._run_dir = run_dir
        self._state = state
        self._variables = state.variables()
        checkpoint = tf.train.Checkpoint(**self._variables)
        self._newest, self._best = (
            tf.train.CheckpointManager(
                checkpoint, os.path.join(run_dir, folder), max_to_keep=number
            )
            for folder, number in ((CHECKPOINT_DIR, keep), (BEST_DIR, 1))
        )
        for folder in (CHECKPOINT_DIR, BEST_DIR):
            _remove_half_written(os.path.join(run_dir, folder))

    def save(self, *, is_best: bool = False) -> str:
        """Saves the state as of now.

        Args:
          is_best: keep it also as the best of the run.

        Returns:
          The checkpoint's path prefix.

        Raises:
          OSError: if it cannot be written; the older ones are untouched.
        """
        self._state.to_variables()
        try:
            path = self._newest.save(checkpoint_number=self._state.step)
            if is_best:
                self._best.save(checkpoint_number=self._state.step)
        except tf.errors.OpError as error:
            raise OSError(
                f"The checkpoint of step {self._state.step} could not be written to "
                f"{self._run_dir}: {error.message} Expected room and permission to "
                f"write. The last whole one is {newest_checkpoint(self._run_dir)}; "
                "make room and run the same command again."
            ) from error
        return path

    def restore(self) -> bool:
        """Restores the newest checkpoint into the state, if there is one.

        Returns:
          Whether there was one.

        Raises:
          ValueError: if it is broken, or holds other variables than the state.
        """
        path = newest_checkpoint(self._run_dir)
        if path is None:
            return False
        _restore(path, self._variables)
        self._state.from_variables()
        return True


def newest_checkpoint(run_dir: str) -> str | None:
    """Gives the path prefix of a run's newest checkpoint, or None."""
    paths = _checkpoints_in(os.path.join(run_dir, CHECKPOINT_DIR))
    return paths[max(paths)] if paths else None


def restore_for_inference(
    model: "keras.Model", run_dir: str, step: int | str | None = None
) -> int:
    """Loads a run's trained weights into a model of the same shape.

    Args:
      model: as `build_model` made it from the run's hparams and problems.
      run_dir: the run's output directory.
      step: number of the checkpoint; None for the newest, "best" for the one with
        the smallest mean dev loss.

    Returns:
      The step of the checkpoint.

    Raises:
      ValueError: if there is no such checkpoint, it is broken, or the model's
        variables are not those of the checkpoint.
    """
    folder = BEST_DIR if step == "best" else CHECKPOINT_DIR
    paths = _checkpoints_in(os.path.join(run_dir, folder))
    if not isinstance(step, int):
        step = max(paths, default=0)
    elif step not in paths:
        best = _checkpoints_in(os.path.join(run_dir, BEST_DIR))
        paths = {**best, **paths}
    if step not in paths:
        known = ", ".join(map(str, sorted(paths))) or "none"
        raise ValueError(
            f"{run_dir} has no checkpoint of step {step}; it has: {known}. "
            "Name one of these, or train with mm-trainer first."
        )
    variables = {
        key: variable
        for key, variable in flat_map(MODEL, model.variables).items()
        if not variable.dtype.is_integer
    }
    _restore(paths[step], variables, only=f"{MODEL}/")
    return step


def _checkpoints_in(folder: str) -> dict[int, str]:
    """Gives the finished checkpoints of a folder: path prefix by step."""
    state = tf.train.get_checkpoint_state(folder) if os.path.isdir(folder) else None
    paths = {}
    for path in state.all_model_checkpoint_paths if state else ():
        prefix = os.path.join(folder, os.path.basename(path))
        if os.path.exists(f"{prefix}.index"):
            paths[int(prefix.rpartition("-")[2])] = prefix
    return paths


def _restore(path: str, variables: Mapping[str, tf.Variable], only: str = "") -> None:
    try:
        saved = _saved_shapes(path, only)
        _check_same_variables(path, variables, saved)
        checkpoint = tf.train.Checkpoint(**variables)
        checkpoint.restore(path).expect_partial().assert_existing_objects_matched()
    except (tf.errors.OpError, RuntimeError, IndexError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"Checkpoint {path} cannot be read: {reason} Expected a whole checkpoint "
            f"as mm-trainer writes it. Remove its files ({path}.*) and run again: the "
            "one before it is used then."
        ) from error


def _saved_shapes(path: str, only: str) -> dict[str, tuple[int, ...]]:
    shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    saved = {}
    for key, shape in shapes.items():
        name = re.sub(r"\.(S|\.)", _unescaped, key.removesuffix(_SUFFIX))
        if name not in _OWN_KEYS and name.startswith(only):
            saved[name] = tuple(shape)
    if only:
        pattern = re.compile(rf"{MODEL}/random_state_\d+$")
        saved = {name: s for name, s in saved.items() if not pattern.match(name)}
    return saved


def _unescaped(match: re.Match) -> str:
    """Undoes TensorFlow's writing of "/" and "." in names as ".S" and ".."."""
    return "/" if match[1] == "S" else "."


def _check_same_variables(
    path: str,
    variables: Mapping[str, tf.Variable],
    saved: Mapping[str, tuple[int, ...]],
) -> None:
    wrong = [f"{name} is not in the model" for name in saved if name not in variables]
    for name, variable in variables.items():
        if name not in saved:
            wrong.append(f"{name} is not in the checkpoint")
        elif tuple(variable.shape) != saved[name]:
            wrong.append(
                f"{name} is {saved[name]} in the checkpoint, "
                f"{tuple(variable.shape)} in the model"
            )
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"Checkpoint {path} does not fit the model: {'; '.join(wrong[:5])}{more}. "
            "Expected the same model, hparams, problems and vocabularies as when it "
            "was saved. Use those, or another --output_dir."
        )


def _remove_half_written(folder: str) -> None:
    """Removes what a killed save left behind; it is in no index and never read."""
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if name.endswith("_temp"):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
